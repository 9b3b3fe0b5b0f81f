"""Names that do not exist and refused handshakes need a person; everything else passes."""

from __future__ import annotations

import socket
import ssl

import pytest

from worker.stores.addressing import is_misaddressed


def while_handling(cause: Exception) -> Exception:
    """An error as drivers wrap them: raised while another was handled, without saying ``from``."""
    error = OSError("cannot connect")
    error.__context__ = cause
    return error


CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed: Hostname mismatch")


@pytest.mark.parametrize(
    ("fault", "misaddressed"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), False),
        (CERTIFICATE, True),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), True),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), False),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed"), False),
        (ConnectionRefusedError(111, "refused"), False),
        (TimeoutError("timed out"), False),
        (while_handling(CERTIFICATE), True),
        (while_handling(while_handling(ssl.SSLCertVerificationError("not the one"))), True),
        (while_handling(ConnectionResetError(104, "reset")), False),
    ],
    ids=repr,
)
def test_only_what_no_second_try_can_mend_is_misaddressed(fault: Exception, misaddressed: bool) -> None:
    assert is_misaddressed(fault) is misaddressed


def test_causes_in_a_circle_come_to_an_end() -> None:
    one, other = OSError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_misaddressed(one)
