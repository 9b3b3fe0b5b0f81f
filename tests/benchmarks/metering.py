"""What a table is charged for, seen from outside the store that is measured: at the requests that leave its client."""

from __future__ import annotations

import threading
from typing import Any, Final, NamedTuple

# What the emulators do not tell, by DynamoDB's documentation. Items here are far smaller than a kilobyte.
_TRANSACTED_WRITE: Final = 2.0
_REFUSED_WRITE: Final = 1.0
_ABSENT_ITEM: Final = 1.0


class Charged(NamedTuple):
    """Units of members' items, and requests. Not counted: the metadata item, of which each session reads one."""

    read: float = 0
    write: float = 0
    requests: int = 0

    def __add__(self, other: tuple[object, ...]) -> Charged:
        assert isinstance(other, Charged)
        return Charged(self.read + other.read, self.write + other.write, self.requests + other.requests)


class Meter:
    """Listens to a boto3 client. It takes an emulator's figures, but for those that are known to be wrong."""

    def __init__(self, client: Any, *, tells_absent: bool) -> None:
        """Listen.

        Args:
            client: whose requests to count; it asks for capacity from now on.
            tells_absent: whether the emulator charges for reading an item that is not there, as DynamoDB does.
        """
        self._tells_absent = tells_absent
        self._lock = threading.Lock()
        self._total = Charged()
        client.meta.events.register("provide-client-params.dynamodb", self._ask)
        client.meta.events.register("after-call.dynamodb", self._count)

    def take(self) -> Charged:
        """What was charged since the last time."""
        with self._lock:
            total, self._total = self._total, Charged()
        return total

    def _ask(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> dict[str, Any]:
        context["metered"] = params
        if "ReturnConsumedCapacity" not in model.input_shape.members:
            return params
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _count(self, model: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        charged = self._charge(model.name, context["metered"], parsed)
        with self._lock:
            self._total += charged

    def _charge(self, operation: str, params: dict[str, Any], answer: dict[str, Any]) -> Charged:
        told = answer.get("ConsumedCapacity") or []
        units = sum(float(each["CapacityUnits"]) for each in (told if isinstance(told, list) else [told]))
        match operation:
            case "UpdateItem":
                refused = "Error" in answer and "Conditional" in answer["Error"]["Code"]
                return Charged(write=_REFUSED_WRITE if refused else units, requests=1)
            case "TransactWriteItems":
                return Charged(write=_TRANSACTED_WRITE * len(params["TransactItems"]), requests=1)
            case "Query":
                return Charged(read=units, requests=1)
            case "BatchGetItem":
                absent = 0 if self._tells_absent or "Error" in answer else _absent(params, answer)
                return Charged(read=units + absent * _ABSENT_ITEM, requests=1)
        return Charged()


def _absent(params: dict[str, Any], answer: dict[str, Any]) -> int:
    asked = sum(len(each["Keys"]) for each in params["RequestItems"].values())
    told = sum(len(items) for items in answer.get("Responses", {}).values())
    left = sum(len(each["Keys"]) for each in answer.get("UnprocessedKeys", {}).values())
    return asked - told - left
