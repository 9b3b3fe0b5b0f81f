"""What `segsync up` keeps in its data directory: the lock, the secrets, and the connection file that others read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from worker.errors import Misconfigured

CONNECTION_FILE = "connection.json"
CREDENTIALS_FILE = "credentials.json"
SECRET_KEYS_FILE = "secret_keys"  # noqa: S105 - its name
_LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is chosen once for a data directory, so that a restart goes on with the same."""

    environment_id: str
    writer_token: str = field(repr=False)
    admin_token: str = field(repr=False)
    state_password: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Choose all of them anew. Hexadecimal: they go into URLs, configuration files and shells as they are."""
        return cls(secrets.token_hex(12), secrets.token_hex(24), secrets.token_hex(24), secrets.token_hex(24))


class DataDirectory:
    """A data directory that belongs to this process alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def lock(cls, path: Path) -> Iterator[Self]:
        """Create the directory where it is missing, and hold it; the kernel lets go of it however we end.

        Raises:
            Misconfigured: it cannot be written, or another `segsync up` holds it.
        """
        directory = cls(path.absolute())
        try:
            for part in (directory.path, directory.logs, directory.server):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Misconfigured(
                f"cannot write to the data directory {path}: {error.strerror}; choose another one with --data-dir"
            ) from None
        try:
            if not _try_lock(lock):
                raise Misconfigured(_held(path))
            directory.remove_connection()
            yield directory
        finally:
            os.close(lock)

    @property
    def logs(self) -> Path:
        """Where the children's logs are."""
        return self.path / "logs"

    @property
    def server(self) -> Path:
        """The embedded server's directory."""
        return self.path / "server"

    def credentials(self) -> Credentials:
        """Read the secrets, or choose them the first time.

        They are on disk before anything uses them: a crash in between changes nothing.

        Raises:
            Misconfigured: the file is there, but is not what was written.
        """
        path = self.path / CREDENTIALS_FILE
        try:
            return Credentials(**json.loads(path.read_text()))
        except FileNotFoundError:
            credentials = Credentials.generate()
            _write_private(path, asdict(credentials))
            return credentials
        except (ValueError, TypeError):
            raise Misconfigured(f"{path} is damaged; put it back, or start with a new --data-dir") from None

    def secret_keys(self) -> str:
        """The keys of this installation's secrets, as SEGSYNC_SECRET_KEYS has them; one is made the first time.

        Raises:
            Misconfigured: the file is there, but holds no keys.
        """
        found = read_secret_keys(self.path)
        if found is None:
            from worker.records.secret_box import new_key

            found = new_key()
            _write_private(self.path / SECRET_KEYS_FILE, found)
        return found

    def write_connection(self, facts: dict[str, Any]) -> None:
        """Publish how to reach the service; only once everything answers."""
        _write_private(self.path / CONNECTION_FILE, facts)

    def remove_connection(self) -> None:
        """Say that nothing answers any more, or not yet."""
        (self.path / CONNECTION_FILE).unlink(missing_ok=True)


def read_secret_keys(path: Path) -> str | None:
    """The keys that a data directory holds; None when it has none yet. A person may have put one more before the first.

    Raises:
        Misconfigured: the file cannot be read, or holds no keys.
    """
    from worker.settings import is_secret_key

    file = path / SECRET_KEYS_FILE
    try:
        keys = file.read_text().replace(",", " ").split()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        raise Misconfigured(f"cannot read {file}; put it back: stores' secrets are encrypted under it") from None
    if not keys or not all(map(is_secret_key, keys)):
        raise Misconfigured(f"{file} is damaged; put it back: stores' secrets are encrypted under it")
    return ",".join(keys)


def check_not_held(path: Path) -> None:
    """Raise Misconfigured if a `segsync up` runs on this directory; creates nothing."""
    if is_held(path):
        raise Misconfigured(_held(path))


def is_held(path: Path) -> bool:
    """Whether a `segsync up` runs on this directory; creates nothing."""
    try:
        lock = os.open(path / _LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(lock)
    finally:
        os.close(lock)


def _held(path: Path) -> str:
    return f"another `segsync up` already runs on {path}; stop it, or choose another directory with --data-dir"


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_private(path: Path, value: dict[str, Any] | str) -> None:
    """Write JSON, or a line of text, for the owner alone: all or nothing, on disk when this returns."""
    draft = path.with_name(path.name + ".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(value if isinstance(value, str) else json.dumps(value, indent=2))
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
