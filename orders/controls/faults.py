"""Faults: the errors, delays and broken connections that the next requests of an operation get."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from orders.contract import Operation
from orders.controls.schemas import SCHEMAS, Schema, check_values
from orders.http.responses import REASONS, Response, json_response

Kind = Literal["error", "delay", "drop", "reset", "truncate"]
When = Literal["before", "after"]
Body = Literal["json", "html", "empty"]

# Kind -> the schema of its faults.
KINDS: Mapping[str, Schema] = {
    kind: SCHEMAS[reference.rpartition("/")[2]]
    for kind, reference in SCHEMAS["Fault"]["discriminator"]["mapping"].items()
}
# What a fault needs before its kind is known.
ANY_KIND = {"type": "object", "required": ["operation", "kind"], "properties": {"kind": {"enum": list(KINDS)}}}
# The page of a gateway, as nginx makes it.
PAGE = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault for the next `count` requests of an operation, or of all operations if `operation` is `*`.

    It is only for requests with its `order_id` and its `executor_id`, if it has them.

    It waits, and then sends an error, breaks the connection off, or lets the normal answer through. It happens before
    or after the operation's transaction. Only an error has a status, a body, and perhaps a `Retry-After` in seconds.
    """

    operation: str
    order_id: str | None = None
    executor_id: str | None = None
    kind: Kind
    when: When
    status: int | None = None
    body: Body | None = None
    retry_after: int | None = None
    delay_ms: int
    count: int

    def ids(self) -> dict[str, str]:
        """Return the parameters that a request needs to get the fault."""
        ids = {"order_id": self.order_id, "executor_id": self.executor_id}
        return {name: value for name, value in ids.items() if value is not None}

    def fits(self, operation: Operation, parameters: Mapping[str, str]) -> bool:
        """Return whether the fault is for a request of an operation with these parameters."""
        return self.operation in ("*", operation.operation_id) and self.ids().items() <= parameters.items()

    def as_json(self) -> dict[str, Any]:
        """Return the fields for JSON, without those that the fault does not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def make_fault(fields: Any) -> Fault:
    """Return a fault with these fields, and defaults for the others. Raises ControlError."""
    kind = check_values(fields, ANY_KIND, "a fault")["kind"]
    return Fault(**check_values(fields, KINDS[kind], f"a fault of the kind {kind}"))


def take_fault(faults: list[Fault], operation: Operation, parameters: Mapping[str, str]) -> Fault | None:
    """Return the first fault that fits a request, or None.

    In the list, its `count` goes down by one; at 0 it is removed.
    """
    for position, fault in enumerate(faults):
        if fault.fits(operation, parameters):
            faults[position : position + 1] = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
            return replace(fault, count=1)
    return None


def error_response(fault: Fault, operation: Operation) -> Response:
    """Return the answer of an error.

    As JSON, it is the contract's first example with the status. If there is none, its message is the reason phrase.
    """
    assert fault.status is not None
    reason = REASONS.get(fault.status, "Unknown error")
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    match fault.body:
        case "html":
            return Response(fault.status, PAGE.format(f"{fault.status} {reason}").encode(), "text/html", headers)
        case "empty":
            return Response(fault.status, b"", "text/plain", headers)
        case _:
            content = operation.examples.get(fault.status, {"message": reason.capitalize()})
            return json_response(fault.status, content, headers)
