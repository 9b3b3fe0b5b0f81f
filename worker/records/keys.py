"""What keys, names and tags of records look like: LaunchDarkly's rules, with bounds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from worker.errors import Misconfigured

_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_TAG = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_LONGEST_KEY = 100
_LONGEST_NAME = 256
_MOST_TAGS = 64


def check_key(what: str, key: str) -> None:
    """Refuse what is no key.

    Raises:
        Misconfigured: see there.
    """
    if not _KEY.fullmatch(key) or len(key) > _LONGEST_KEY:
        raise Misconfigured(
            f"{what} begins with a letter or a digit, and has letters, digits, dots, dashes and underscores, "
            f"{_LONGEST_KEY} at the most"
        )


def check_name(what: str, name: str) -> None:
    """Refuse what nobody could read.

    Raises:
        Misconfigured: see there.
    """
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME or name != name.strip():
        raise Misconfigured(f"{what} is 1 to {_LONGEST_NAME} printable characters, without blanks around them")


def check_tags(tags: Sequence[str]) -> None:
    """Refuse what LaunchDarkly would not take for a tag.

    Raises:
        Misconfigured: see there.
    """
    if len(tags) > _MOST_TAGS or not all(_TAG.fullmatch(tag) for tag in tags):
        raise Misconfigured(
            f"a tag is 1 to 64 letters, digits, dots, dashes and underscores, and there are {_MOST_TAGS} at the most"
        )
