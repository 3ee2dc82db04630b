"""What the contract says of a single answer, whatever happened before: the answer that a request deserves.

`deserves` reads a request as the contract reads it (D7 to D10); `judge` holds the answer against that.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes
from uuid import UUID

from contract_tests.transport import Answer, Request

CREATED = "Successfully created"
ALREADY_EXISTS = "AssignedOrder with provided orderId already exists"
ACQUIRED = "Successfully acquired"
NO_ORDERS = "There are no orders assigned to you"
CANCELED = "Successfully canceled"
NOT_FOUND = "Not found"
METHOD_NOT_ALLOWED = "Method not allowed"
UNKNOWN_ERROR = "Unknown error"

MAX_CODE_POINTS = 255
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")


def not_active(order_id: str) -> str:
    """Return the message of a cancel that has nothing to cancel."""
    return f"AssignedOrder with OrderId {order_id} does not exist or has already been canceled"


@dataclass(frozen=True)
class Operation:
    """An operation of the contract, with the clauses that its simplest answers fall under."""

    name: str
    method: str
    path: str
    parameters: tuple[str, ...]
    missing: str
    clause: str
    clause_of_missing: str


ASSIGN = Operation(
    "assign",
    "PUT",
    "/orders/assign",
    ("order_id", "executor_id", "zone_id"),
    "Missing parameters, please provide order_id, executor_id and zone_id",
    "ASSIGN-1",
    "ASSIGN-2",
)
ACQUIRE = Operation(
    "acquire",
    "GET",
    "/order/acquire",
    ("executor_id",),
    "Missing parameters, please provide executor_id",
    "ACQUIRE-3",
    "ACQUIRE-2",
)
CANCEL = Operation(
    "cancel",
    "POST",
    "/order/cancel",
    ("order_id",),
    "Missing parameters, please provide order_id",
    "CANCEL-3",
    "CANCEL-2",
)
OPERATIONS = (ASSIGN, ACQUIRE, CANCEL)


def operation_of(request: Request) -> Operation | None:
    """Return the operation that a request calls; None if it is for another path or method."""
    for operation in OPERATIONS:
        if (request.method, request.path) == (operation.method, operation.path):
            return operation
    return None


class Finding(NamedTuple):
    """A clause that an answer breaks, and what was expected instead."""

    clause: str
    expected: str
    # The answer is another one of those that the contract gives to such a request: its form is right.
    is_another_branch: bool = False


class Deserved(NamedTuple):
    """What a request's parameters deserve: `valid`, `missing`, `invalid`, or `open` where the document is silent."""

    kind: str
    # Of valid: the parameters. Of the others: empty.
    values: dict[str, str]
    # Of missing and invalid: the clause that says so. Of invalid: the parameter to be named.
    clause: str = ""
    parameter: str = ""


def deserves(operation: Operation, query: str) -> Deserved:
    """Read a query string as the contract says (D7 to D9)."""
    given: dict[str, list[bytes]] = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            given.setdefault(_decode(name).decode(errors="replace"), []).append(_decode(value))
    lists = [given.get(name, []) for name in operation.parameters]
    invalid = [
        (name, clause)
        for name, values in zip(operation.parameters, lists, strict=True)
        if (clause := _invalid(values)) is not None
    ]
    # A `%` that starts no escape, and a parameter given several times with an empty value among them: the document
    # does not say.
    if re.search("%(?![0-9A-Fa-f]{2})", query) or any(len(values) > 1 and b"" in values for values in lists):
        return Deserved("open", {})
    if not all(any(values) for values in lists):
        absent = not all(lists)
        clause = "PARAM-2" if invalid else operation.clause_of_missing if absent else "PARAM-1"
        return Deserved("missing", {}, clause)
    if invalid:
        name, clause = invalid[0]
        return Deserved("invalid", {}, clause, name)
    return Deserved(
        "valid", {name: values[0].decode() for name, values in zip(operation.parameters, lists, strict=True)}
    )


def _decode(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))


def _invalid(values: list[bytes]) -> str | None:
    """Return the clause under which a parameter's values are invalid; None if they are not."""
    if len(values) > 1 and any(values):
        return "PARAM-7"
    if not values:
        return None
    try:
        text = values[0].decode()
    except UnicodeDecodeError:
        return "PARAM-6"
    if len(text) > MAX_CODE_POINTS:
        return "PARAM-4"
    return "PARAM-5" if CONTROL_CHARACTER.search(text) else None


def judge(request: Request, answer: Answer, expected: str | None = None) -> tuple[Finding | None, list[Finding]]:
    """Hold an answer to a call of an operation against what the call deserves.

    `expected` is the message that a call with valid parameters must be answered with; None allows each of the
    operation's. Returns what is wrong with the answer's branch (its status and message), if anything, and everything
    that is wrong beside it.
    """
    operation = operation_of(request)
    assert operation is not None, request
    deserved = deserves(operation, request.query)
    beside = list(_form(answer))
    match deserved.kind:
        case "missing":
            right = answer.status == 400 and answer.message == operation.missing
            wrong = None if right else Finding(deserved.clause, f'400 {{"message": "{operation.missing}"}}')
        case "invalid":
            wrong = _not_invalid(answer, deserved)
        case "valid":
            wrong = _not_a_branch(operation, request, answer, deserved.values, expected)
        case _:
            wrong = None if answer.status in (200, 400) else Finding(operation.clause, "200 or 400")
    if wrong is None:
        beside += _beside(operation, answer, deserved)
    return wrong, beside


def _form(answer: Answer) -> Iterator[Finding]:
    kind = (answer.header("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        yield Finding("WIRE-1", "a Content-Type of application/json")
    elif answer.json is None:
        yield Finding("WIRE-1", "a body that is one JSON object, in UTF-8, each key once")


def _not_invalid(answer: Answer, deserved: Deserved) -> Finding | None:
    start = f"Invalid parameter {deserved.parameter}: "
    message = answer.message if isinstance(answer.message, str) else ""
    if answer.status == 400 and message.startswith(start) and len(message) > len(start):
        return None
    expected = f'400 {{"message": "{start}…"}} with what is wrong after the colon'
    names_another = answer.status == 400 and message.startswith("Invalid parameter ")
    return Finding("PARAM-8" if names_another else deserved.clause, expected)


def branches(operation: Operation, values: dict[str, str]) -> dict[str, int]:
    """Return the messages that a call with valid parameters can be answered with, each with its status."""
    if operation is ASSIGN:
        return {CREATED: 200, ALREADY_EXISTS: 400}
    if operation is ACQUIRE:
        return {ACQUIRED: 200, NO_ORDERS: 200}
    return {CANCELED: 200, not_active(values["order_id"]): 200}


def clause_of(message: str) -> str:
    """Return the clause that says when a message is the answer; empty for one that no valid request gets."""
    clauses = {
        CREATED: "ASSIGN-1",
        ALREADY_EXISTS: "ASSIGN-3",
        ACQUIRED: "ACQUIRE-1",
        NO_ORDERS: "ACQUIRE-3",
        CANCELED: "CANCEL-1",
    }
    return clauses.get(message, "CANCEL-3" if _is_not_active(message) else "")


def _not_a_branch(
    operation: Operation, request: Request, answer: Answer, values: dict[str, str], expected: str | None
) -> Finding | None:
    possible = branches(operation, values)
    allowed = possible if expected is None else {expected: possible[expected]}
    message = answer.message
    if operation is CANCEL and _is_not_active(message):
        # Whether it is the right id that comes back is another clause's matter.
        message = not_active(values["order_id"])
    if isinstance(message, str) and allowed.get(message) == answer.status:
        return None
    wanted = " or ".join(f'{status} {{"message": "{message}"}}' for message, status in allowed.items())
    is_another_branch = isinstance(message, str) and possible.get(message) == answer.status
    if is_another_branch or answer.status == 200 or message in possible:
        clause = operation.clause if expected is None else clause_of(expected)
    elif request.body:
        clause = "PARAM-11"
    elif not {part.partition("=")[0] for part in request.query.split("&")} <= set(operation.parameters):
        clause = "PARAM-12"
    elif not all(re.fullmatch(r"[\w-]{1,64}", value, re.ASCII) for value in values.values()):
        clause = "PARAM-3"
    else:
        clause = operation.clause if expected is None else clause_of(expected)
    return Finding(clause, wanted, is_another_branch)


def _is_not_active(message: object) -> bool:
    """Tell whether a message is cancel's, for whatever id, or for none."""
    start, end = not_active("").split("  ")
    return isinstance(message, str) and message.startswith(start) and message.endswith(end)


PROFILE: dict[str, tuple[str, str, Callable[[str], bool]]] = {
    "assigned_order_id": ("ACQUIRE-6", "a UUID", lambda text: _parses(text, _uuid)),
    "order_id": ("ACQUIRE-5", "text", bool),
    "executor_id": ("ACQUIRE-5", "text", bool),
    "zone_id": ("ACQUIRE-5", "text", bool),
    "execution_status": ("ACQUIRE-5", '"acquired"', lambda text: text == "acquired"),
    "assign_time": ("ACQUIRE-7", "a time in RFC 3339, in UTC, with Z", lambda text: _parses(text, parse_time)),
    "acquire_time": ("ACQUIRE-7", "a time in RFC 3339, in UTC, with Z", lambda text: _parses(text, parse_time)),
}


def _beside(operation: Operation, answer: Answer, deserved: Deserved) -> Iterator[Finding]:
    """Yield what is wrong with an answer whose status and message are right."""
    body = answer.json or {}
    allowed = {"message", "order_profile"} if body.get("message") == ACQUIRED else {"message"}
    if set(body) != allowed:
        clause = deserved.clause or clause_of(str(body.get("message")))
        yield Finding(clause, f"an object with {' and '.join(sorted(allowed))}, and nothing else")
    if deserved.kind == "valid" and _is_not_active(answer.message):
        message = not_active(deserved.values["order_id"])
        if answer.message != message:
            yield Finding("CANCEL-5", f'{{"message": "{message}"}}')
    if operation is ACQUIRE:
        directives = {part.strip().lower() for part in (answer.header("Cache-Control") or "").split(",")}
        if "no-store" not in directives:
            yield Finding("ACQUIRE-8", "Cache-Control: no-store")
        if answer.header("ETag") is not None:
            yield Finding("ACQUIRE-9", "no ETag")
    if body.get("message") != ACQUIRED or "order_profile" not in body:
        return
    if not isinstance(body["order_profile"], dict):
        yield Finding("ACQUIRE-1", "an order_profile that is an object")
        return
    profile = answer.profile
    if set(profile) != set(PROFILE):
        yield Finding("ACQUIRE-5", f"an order_profile with {', '.join(PROFILE)}, and nothing else")
    for name, (clause, kind, is_right) in PROFILE.items():
        if name in profile and not (isinstance(profile[name], str) and is_right(profile[name])):
            yield Finding(clause, f"{name} in the order_profile to be {kind}")
    try:
        assigned, acquired = (parse_time(str(profile.get(name))) for name in ("assign_time", "acquire_time"))
    except ValueError:
        pass
    else:
        if acquired < assigned:
            yield Finding("ACQUIRE-7", "an acquire_time that is not before the assign_time")
    executor_id = deserved.values.get("executor_id")
    if executor_id is not None and profile.get("executor_id", executor_id) != executor_id:
        yield Finding("ACQUIRE-1", f"an order of the executor who asks, {executor_id!r}")


def _parses(text: str, parse: Callable[[str], object]) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _uuid(text: str) -> UUID:
    value = UUID(text)
    if str(value) != text.lower():
        raise ValueError("not in the form of RFC 9562")
    return value


def parse_time(text: str) -> datetime:
    """Return a time of an order profile (D6); raise ValueError for what is not RFC 3339, in UTC, with `Z`."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text, re.ASCII):
        raise ValueError(f"{text!r} is not RFC 3339 in UTC with Z")
    whole, _, fraction = text[:-1].partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")
