"""Redis over TLS, with certificates of a test's own authority."""

from __future__ import annotations

from pathlib import Path

from certificates import Authority, Certificate
from servers import VOLATILE, ValkeyServer, free_port, redis_binary


class TlsServer:
    """Redis with a port for TLS, where a client must show a certificate of the same authority."""

    def __init__(self, directory: Path, authority: Authority, certificate: Certificate, **settings: str) -> None:
        self.authority = authority
        self.port = free_port()
        self.plain = ValkeyServer(
            directory,
            {
                **VOLATILE,
                "tls-port": str(self.port),
                "tls-cert-file": str(certificate.file),
                "tls-key-file": str(certificate.key_file),
                "tls-ca-cert-file": str(authority.file),
                "tls-auth-clients": "yes",
                **{name.replace("_", "-"): value for name, value in settings.items()},
            },
            binary=redis_binary(),
        )
        self.plain.start()
