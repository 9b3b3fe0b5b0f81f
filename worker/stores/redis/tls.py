"""TLS to a Redis server: which file, or whose certificate, is to blame when it fails."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any, Final

import redis

from worker.stores.addressing import causes_of

# The alerts with which a server refuses a client's certificate, or the want of one.
_REFUSED_BY_SERVER: Final = ("ALERT_CERTIFICATE", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA", "ALERT_UNSUPPORTED")
_REQUIRED: Final = "CERTIFICATE_REQUIRED"


class UnusableFile(redis.RedisError):
    """Raised when a file of certificates or keys cannot be used: which setting names it, never what is in it."""


class _AlertedSocket(ssl.SSLSocket):
    """A socket that says why its peer hung up.

    In TLS 1.3 a server judges a client's certificate after the client's side of the handshake is done: its alert waits
    to be read while the first command is written, and fails.
    """

    def sendall(self, data: Any, flags: int = 0) -> None:
        try:
            super().sendall(data, flags)
        except OSError as fault:
            self.settimeout(0)
            try:
                self.recv(1)
            except ssl.SSLWantReadError:
                raise fault from None
            raise


class TlsConnection(redis.SSLConnection):
    """redis-py's connection over TLS; each file is tried by itself, so that the one at fault can be named."""

    def can_read(self, timeout: float = 0) -> bool:  # noqa: ARG002 - a pool never waits here
        """Whether there is a reply that nobody asked for; redis-py takes any bytes on the socket for one.

        The session tickets of TLS 1.3 come after the handshake: a pool would not hand out such a connection.
        """
        try:
            self._parser.read_from_socket(timeout=0, raise_on_timeout=False)
        except OSError as fault:
            raise redis.ConnectionError(str(fault)) from fault
        return bool(self._parser._reader.has_data())  # noqa: SLF001 - what redis-py itself asks first

    def _wrap_socket_with_ssl(self, sock: socket) -> Any:
        context = ssl.create_default_context()
        context.sslsocket_class = _AlertedSocket
        context.check_hostname = self.check_hostname
        if self.ca_certs:
            with _usable("tlsCaFile", self.ca_certs):
                context.load_verify_locations(cafile=self.ca_certs)
        if self.certfile and self.keyfile:
            for setting, path in (("tlsCertFile", self.certfile), ("tlsKeyFile", self.keyfile)):
                with _usable(setting, path):
                    Path(path).read_bytes()
            with _usable("tlsCertFile", f"{self.certfile}, with tlsKeyFile {self.keyfile},"):
                # A key with a passphrase is refused: without this, OpenSSL would ask for it on the terminal.
                context.load_cert_chain(self.certfile, self.keyfile, password="")
        return context.wrap_socket(sock, server_hostname=self.host)


def tls_reason(fault: BaseException) -> str | None:
    """What is wrong with TLS, and what to do, where a failed handshake is behind a driver's error."""
    for cause in causes_of(fault):
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = getattr(cause, "verify_message", "it could not be verified")
            return (
                f"its certificate is not accepted ({why}); see tlsCaFile, the host's name, "
                "tlsCheckHostname and the certificate's dates"
            )
        if isinstance(cause, ssl.SSLError):
            said = str(cause).upper().replace(" ", "_")
            if _REQUIRED in said:
                return "it wants a client certificate; set tlsCertFile and tlsKeyFile"
            if any(alert in said for alert in _REFUSED_BY_SERVER):
                return "it refuses our client certificate; see tlsCertFile, who signed it, and its dates"
    return None


@contextmanager
def _usable(setting: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:  # SSLError is one, whose text may quote neither
        why = (
            "it holds nothing of that kind, or the two do not belong together" if _is_of_tls(fault) else fault.strerror
        )
        raise UnusableFile(f"the file {path} of {setting} cannot be used: {why}") from None


def _is_of_tls(fault: OSError) -> bool:
    return isinstance(fault, ssl.SSLError)
