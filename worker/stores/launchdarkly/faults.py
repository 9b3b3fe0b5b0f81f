"""Every way in which LaunchDarkly's API can fail us, turned once into ``Unavailable``: what, where and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import httpx2
import msgspec

from worker.errors import Fault, Unavailable
from worker.model import LaunchDarklyStoreConfiguration
from worker.stores.addressing import is_misaddressed

# What can go wrong before a request leaves: nothing of it can land.
_NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
    httpx2.InvalidURL,
)
# Statuses: what to do, and how soon trying again is of use.
_ADVICE: Final[Mapping[int, tuple[Fault, str]]] = {
    # LaunchDarkly's list of answers to a change of members has no 403.
    401: (
        "configuration",
        "the access token is not known there, or may not; give one of this instance, no SDK key, with {rights}",
    ),
    403: ("configuration", "the access token may not; give its role {rights}"),
    404: ("configuration", "there is no such thing; see base URI, project key and environment key"),
    408: ("transient", "it did not get the request whole; it is tried again"),
    409: ("transient", "somebody else changes the same thing; it is tried again"),
}
_NOT_TAKEN: Final[tuple[Fault, str]] = (
    "configuration",
    "it does not take such a request; see whether big segments are part of the plan there",
)
DRIVER_ERRORS: Final = (httpx2.HTTPError, httpx2.InvalidURL)
_LONGEST_CODE: Final = 60
# What is wrong with one segment alone: the others go on, and the store's status tells of it.
OF_ONE_SEGMENT: Final[Fault] = "item"


class _Refusal(msgspec.Struct):
    code: str = ""


class Faults:
    """Speaks of one environment. It never repeats an answer's text: that may quote keys; of its code, the beginning."""

    def __init__(self, configuration: LaunchDarklyStoreConfiguration) -> None:
        self._configuration = configuration
        self._where = str(configuration)

    def unavailable(self, reason: str, *, fault: Fault = "transient", lost: bool = False) -> Unavailable:
        """What to raise for a reason that is told in a sentence.

        Args:
            reason: what is wrong, and what to do.
            fault: how soon to try again.
            lost: something was sent that may still land.
        """
        fate = "; what was sent and not answered may still land" if lost else ""
        return Unavailable(f"{self._where}: {reason}{fate}", dependency="store", fate_unknown=lost, fault=fault)

    def of_driver(self, error: Exception, *, writes: bool) -> Unavailable:
        """What to raise, ``from error``, in place of an error of the HTTP client."""
        lost = writes and not isinstance(error, _NEVER_SENT)
        if is_misaddressed(error):
            return self.unavailable(
                "the TLS handshake failed; see the base URI, and the certificates that this machine trusts",
                fault="configuration",
                lost=lost,
            )
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError):
            return self.unavailable("no request could be made; see the base URI", fault="configuration")
        if isinstance(error, httpx2.TimeoutException):
            return self.unavailable("no answer in time; see the network between here and LaunchDarkly", lost=lost)
        return self.unavailable(
            "cannot be reached; see the base URI, and the network between here and LaunchDarkly", lost=lost
        )

    def of_answer(self, answer: httpx2.Response, permission: str, *, writes: bool) -> Unavailable:
        """What to raise for an answer that says no.

        Args:
            answer: with another status than was hoped for.
            permission: what the access token must be allowed to do for this request.
            writes: it was to change something, whose fate can matter.
        """
        status = answer.status_code
        told = f"it answered {status}{_code_of(answer)}"
        lost = writes and status >= HTTPStatus.INTERNAL_SERVER_ERROR
        fault, advice = self._judge(status, permission)
        return self.unavailable(f"{told}: {advice}", fault=fault, lost=lost)

    def no_api(self) -> Unavailable:
        """What to raise for an answer that LaunchDarkly's API does not give."""
        return self.unavailable(
            "what answered is not LaunchDarkly's API; see the base URI, and who stands between", fault="configuration"
        )

    def no_environment(self) -> Unavailable:
        """What to raise when project or environment are not there."""
        project, environment = self._configuration.projectKey, self._configuration.environmentKey
        return self.unavailable(
            f"there is no project {project} with an environment {environment}, or the access token may not see it; "
            "correct the keys, or the token's role",
            fault="configuration",
        )

    def _judge(self, status: int, permission: str) -> tuple[Fault, str]:
        project, environment = self._configuration.projectKey, self._configuration.environmentKey
        rights = f"{permission} on proj/{project}:env/{environment}:segment/*"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return "transient", "it is in trouble; see LaunchDarkly's status page"
        if status < HTTPStatus.BAD_REQUEST:
            return "configuration", "that is not LaunchDarkly's API; correct the base URI"
        fault, advice = _ADVICE.get(status, _NOT_TAKEN)
        return fault, advice.format(rights=rights)


def _code_of(answer: httpx2.Response) -> str:
    try:
        code = msgspec.json.decode(answer.content, type=_Refusal).code
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    plain = code.replace("_", "").isalnum() and code.isascii() and len(code) <= _LONGEST_CODE
    return f" ({code})" if plain else ""
