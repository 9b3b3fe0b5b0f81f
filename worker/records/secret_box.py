"""Secrets at rest: what is secret of a store lies encrypted in the records, under keys that are not kept there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from worker.errors import Misconfigured
from worker.model import StoreConfiguration

# How an encrypted secret begins; the rest is a Fernet token.
SEALED: Final = "fernet:"
NO_KEYS: Final = (
    "there is a secret to keep and no key to encrypt it: set SEGSYNC_SECRET_KEYS, the same for every process; "
    "`segsync keys new` prints a key"
)
LOCKED: Final = "none of the keys in SEGSYNC_SECRET_KEYS opens its secrets; nothing is written to it until one does"


class CannotOpen(Exception):
    """Raised when none of the keys opens a secret."""


class SecretBox:
    """Seals with the first key, opens with any. Without keys, it opens what older versions left unsealed, only."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None

    @property
    def has_keys(self) -> bool:
        """Whether it can seal."""
        return self._fernet is not None

    def seal(self, secret: str) -> str:
        """A secret as it is kept; none stays none.

        Raises:
            Misconfigured: there is no key; the message says what to do.
        """
        if not secret:
            return ""
        if self._fernet is None:
            raise Misconfigured(NO_KEYS)
        return SEALED + self._fernet.encrypt(secret.encode()).decode()

    def open(self, kept: str) -> str:
        """The secret that is kept, sealed or, by an older version, not.

        Raises:
            CannotOpen: none of the keys opens it.
        """
        if not kept.startswith(SEALED):
            return kept
        if self._fernet is None:
            raise CannotOpen
        try:
            return self._fernet.decrypt(kept.removeprefix(SEALED).encode()).decode()
        except InvalidToken:
            raise CannotOpen from None


def secrets_of(configuration: StoreConfiguration) -> dict[str, str]:
    """What is secret of a configuration, by field; those that are empty are left out."""
    values = ((name, getattr(configuration, name)) for name in type(configuration).model_fields)
    return {name: text for name, value in values if isinstance(value, SecretStr) and (text := value.get_secret_value())}


def new_key() -> str:
    """A key that may be in SEGSYNC_SECRET_KEYS."""
    return Fernet.generate_key().decode()
