"""The test controls: faults on demand, reset, the journal of requests, the stored orders. Off unless asked for.

They are for those who test a client, and no part of the contract: `controls.yaml` describes them. With the controls on,
every request of an operation takes this way:

    a reset is under way ........ wait for its end
    the journal ................. note the request
    a fault ..................... that of the request's own `Prefer` header, or the next one in the operation's queue
        before .................. delay; then drop the connection, answer an error, or go on
        the operation itself .... its transaction is committed
        after ................... delay; then drop the connection, answer an error, or go on
    the journal ................. note the answer
"""

import asyncio
import json
import re
import reprlib
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes
from urllib.request import parse_http_list

from orders.contract import RESERVED_PREFIX, Contract, Operation
from orders.document import load_document
from orders.http.app import App
from orders.http.cors import ORIGIN, Cors
from orders.http.docs import Definition, make_pages
from orders.http.exchange import Handler, NoAnswer, Request
from orders.http.query import decode, split_query
from orders.http.responses import Response, json_response, message_response
from orders.lifecycle import Orders, Row, utc_now
from orders.storage.models import COLUMNS, ExecutionStatus, rfc3339

T = TypeVar("T")

PREFIX = f"{RESERVED_PREFIX}controls/"
MAX_COUNT = 1_000_000
MAX_DELAY_MS = 600_000
JOURNAL_LENGTH = 1_000
JOURNAL_BODY_LENGTH = 1_000
MAX_ORDERS = 10_000
FAULT_PREFERENCES = ("code", "wait", "drop")


class Kind(StrEnum):
    """What happens to a request that gets a fault."""

    ERROR = "error"
    DELAY = "delay"
    DROP = "drop"


class When(StrEnum):
    """On which side of the operation's transaction a fault happens."""

    BEFORE = "before"
    AFTER = "after"


class Outcome(StrEnum):
    """What became of a request in the journal."""

    PENDING = "pending"
    ANSWERED = "answered"
    DROPPED = "dropped"
    ABANDONED = "abandoned"


class ControlError(ValueError):
    """The controls were asked for what they do not have; the message says what they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What the next `count` requests of an operation get: a delay, and then an error, no answer, or the normal one."""

    operation: str
    kind: Kind
    when: When = When.BEFORE
    status: int | None = None
    delay_ms: int = 0
    count: int = 1


@dataclass(slots=True, kw_only=True)
class RecordedRequest:
    """A request in the journal, and its answer if there was one.

    `parameters` are those of the query, decoded, the last one where a name is repeated; `target` is as it was sent. The
    names of `headers` are in lower case.
    """

    number: int
    time: str
    operation: str | None
    method: str
    target: str
    parameters: dict[str, str]
    headers: dict[str, str]
    body: str
    fault: Fault | None = None
    outcome: Outcome = Outcome.PENDING
    status: int | None = None
    answer: Any = None
    duration_ms: float | None = None


class Journal:
    """The last requests, in the order in which they arrived."""

    def __init__(self) -> None:
        self._requests: deque[RecordedRequest] = deque(maxlen=JOURNAL_LENGTH)
        self._count = 0

    @property
    def forgotten(self) -> int:
        """How many earlier requests have made room for later ones."""
        return self._count - len(self._requests)

    def add(self, request: Request, operation: Operation | None) -> RecordedRequest:
        """Note a request that has arrived."""
        self._count += 1
        recorded = RecordedRequest(
            number=self._count,
            time=utc_now(),
            operation=operation.operation_id if operation else None,
            method=request.method,
            target=f"{request.path}?{request.query}" if request.query else request.path,
            parameters={name: readable(values[-1]) for name, values in split_query(request.query).items() if name},
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.body[:JOURNAL_BODY_LENGTH].decode("utf-8", "replace"),
        )
        self._requests.append(recorded)
        return recorded

    def find(self, operation: str | None, status: int | None, since: str | None) -> list[RecordedRequest]:
        """Return the requests that fit all that is asked for."""
        return [
            request
            for request in self._requests
            if (operation is None or request.operation == operation)
            and (status is None or request.status == status)
            and (since is None or request.time >= since)
        ]

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()
        self._count = 0


class Controls:
    """The test controls of one app. All of it happens on the event loop's thread."""

    def __init__(self, contract: Contract, orders: Orders, cors: Cors | None = None) -> None:
        """Control the operations of `contract` over `orders`; pages of the origins in `cors` may do so too."""
        self._contract = contract
        unknown_error = contract.common_answers["UnknownError"]
        self._unknown_error = message_response(unknown_error.status, unknown_error.message())
        self._operations = {(operation.method, operation.path): operation for operation in contract.operations}
        self._by_id = {operation.operation_id: operation for operation in contract.operations}
        self._orders = orders
        self._cors = cors
        self._faults: dict[str, deque[Fault]] = {operation_id: deque() for operation_id in self._by_id}
        self._journal = Journal()
        self._under_way = 0
        self._quiet, self._open, self._hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._quiet.set()
        self._open.set()
        self._resetting = asyncio.Lock()
        self._closed = False
        self.routes: Mapping[str, Mapping[str, Handler]] = {
            f"{PREFIX}reset": {"POST": self._route(self._post_reset)},
            f"{PREFIX}faults": {
                "GET": self._route(self._get_faults),
                "POST": self._route(self._post_fault),
                "DELETE": self._route(self._delete_faults),
            },
            f"{PREFIX}requests": {
                "GET": self._route(self._get_requests, "operation", "status", "since"),
                "DELETE": self._route(self._delete_requests),
            },
            f"{PREFIX}orders": {"GET": self._route(self._get_orders, "order_id", "executor_id", "status", "limit")},
        }

    def install(self, app: App) -> None:
        """Add the controls to an app: their own paths, and the faults and the journal around the other requests."""
        document = load_document(Path(__file__).with_name("controls.yaml"))
        app.add_routes(self.routes)
        contract = Definition("Orders service", "/", self._contract.document)
        app.add_pages(make_pages(contract, Definition("Test controls", PREFIX, document)))
        operations = {operation.path for operation in self._contract.operations}
        app.handler = self.around(app.handler, app.paths() - operations)

    async def reset(self) -> None:
        """Forget all orders, faults and requests, once what is under way has ended; delays end at once."""
        async with self._resetting:
            self._open.clear()
            self._hurry.set()
            try:
                await self._quiet.wait()
                await self._orders.delete_orders()
                self.clear_faults()
                self.clear_requests()
            finally:
                if not self._closed:
                    self._hurry.clear()
                self._open.set()

    def add_fault(self, fields: Mapping[str, Any]) -> Fault:
        """Queue a fault, behind those that its operation has already; return it. Raises ControlError."""
        fault = self._fault_of(fields)
        self._faults[fault.operation].append(fault)
        return fault

    def faults(self) -> list[Fault]:
        """Return the faults that are still to happen, each with what is left of its `count`."""
        return [fault for faults in self._faults.values() for fault in faults]

    def clear_faults(self) -> None:
        """Drop the faults that are still to happen."""
        for faults in self._faults.values():
            faults.clear()

    def requests(
        self, operation: str | None = None, status: int | None = None, since: str | None = None
    ) -> list[RecordedRequest]:
        """Return copies of the recorded requests that fit all that is asked for, the oldest first. Raises ControlError.

        `since` is a time as RFC 3339 has it.
        """
        if operation is not None:
            _one_of("operation", operation, list(self._by_id))
        if status is not None:
            _whole("status", status, 100, 599)
        if since is not None:
            since = rfc3339(_time("since", since))
        return [replace(request) for request in self._journal.find(operation, status, since)]

    def clear_requests(self) -> None:
        """Empty the journal."""
        self._journal.clear()

    async def orders(self, filters: Mapping[str, str], limit: int = MAX_ORDERS) -> tuple[int, list[Row]]:
        """Return how many orders there are, and the `limit` newest of them as they are stored, the oldest first.

        `filters` has the value of each column that is asked for. Raises ControlError.
        """
        for column in filters:
            _one_of("filter", column, COLUMNS)
        if "execution_status" in filters:
            _one_of("status", filters["execution_status"], list(ExecutionStatus))
        for column, value in filters.items():
            if not isinstance(value, str):
                raise ControlError(f"{column} must be a string, not {reprlib.repr(value)}")
            if "\0" in value:
                raise ControlError(f"{column} cannot have the character U+0000, no stored one has it")
        return await self._orders.orders(filters, limit)

    def close(self) -> None:
        """End the delays that are under way, and have no more of them, because the server is to stop."""
        self._closed = True
        self._hurry.set()

    def around(self, handler: Handler, not_recorded: Collection[str]) -> Handler:
        """Return `handler` with faults and the journal around it; paths that are `not_recorded` are left alone."""

        async def answer(request: Request) -> Response:
            if request.path in not_recorded or request.path.startswith(RESERVED_PREFIX):
                response = await handler(request)
            else:
                response = await self._record(request, handler)
            if request.headers.get("User-Agent", "").startswith("Mozilla/"):
                # A browser sends a request again by itself if a connection that it has used before is closed without
                # an answer, and so would hide a dropped one.
                response = replace(response, headers={**response.headers, "Connection": "close"})
            return response

        return answer

    async def _record(self, request: Request, handler: Handler) -> Response:
        operation = self._operations.get((request.method, request.path))
        while not self._open.is_set():
            await self._open.wait()
        self._under_way += 1
        self._quiet.clear()
        begun = time.perf_counter()
        recorded = self._journal.add(request, operation)
        response: Response | None = self._unknown_error  # The answer to an exception.
        try:
            if operation is None:
                response = await handler(request)
            else:
                response = await self._answer(request, operation, recorded, handler)
            return response
        except NoAnswer:
            response = None
            raise
        finally:
            recorded.duration_ms = round((time.perf_counter() - begun) * 1000, 3)
            if response is None:
                recorded.outcome = Outcome.DROPPED
            else:
                recorded.outcome = Outcome.ABANDONED if request.is_abandoned() else Outcome.ANSWERED
                recorded.status, recorded.answer = response.status, json.loads(response.body)
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def _answer(
        self, request: Request, operation: Operation, recorded: RecordedRequest, handler: Handler
    ) -> Response:
        try:
            preferences = Preferences(request.headers.get("Prefer", ""), operation)
        except ControlError as error:
            return message_response(400, f"Invalid header Prefer: {error}")
        recorded.fault = fault = preferences.fault if preferences else self._next_fault(operation)
        response = None
        if fault is None or fault.when is When.AFTER:
            response = await handler(request)
        if fault is not None:
            await self._pause(fault.delay_ms)
            if fault.kind is Kind.DROP:
                raise NoAnswer
            if fault.status is not None:
                response = json_response(fault.status, operation.examples[fault.status])
        if response is None:
            response = await handler(request)
        return preferences.applied_to(response)

    def _next_fault(self, operation: Operation) -> Fault | None:
        faults = self._faults[operation.operation_id]
        if not faults:
            return None
        fault = faults.popleft()
        if fault.count > 1:
            faults.appendleft(replace(fault, count=fault.count - 1))
        return replace(fault, count=1)

    async def _pause(self, delay_ms: int) -> None:
        if delay_ms:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_ms / 1000):
                    await self._hurry.wait()

    def _route(self, handler: Callable[..., Response | Coroutine[Any, Any, Response]], *parameters: str) -> Handler:
        """Return `handler`, which is passed the request and those of `parameters` that are in its query."""

        async def answer(request: Request) -> Response:
            origin = request.headers.get("Origin")
            if origin is not None and not self._may_control(origin, request.headers.get("Host", "")):
                if not ORIGIN.fullmatch(origin):
                    return message_response(403, "Pages without an origin may not use the controls")
                return message_response(
                    403, f"Pages of {origin} may not use the controls; --cors-origin {origin} allows it"
                )
            try:
                outcome = handler(request, **_query(request.query, parameters))
                return outcome if isinstance(outcome, Response) else await outcome
            except ControlError as error:
                return message_response(400, str(error))

        return answer

    def _may_control(self, origin: str, host: str) -> bool:
        # A browser lets any page send a POST anywhere, and only keeps the answer from it. Names other than localhost
        # may be somebody else's that lead here (DNS rebinding).
        own = re.fullmatch(r"(localhost|[0-9.]+|\[[0-9a-f:]+\])(:[0-9]+)?", host) is not None
        return (own and origin == f"http://{host}") or (self._cors is not None and self._cors.names(origin))

    async def _post_reset(self, request: Request) -> Response:
        await self.reset()
        return message_response(200, "Successfully reset")

    def _get_faults(self, request: Request) -> Response:
        return json_response(200, {"faults": [_fields(fault) for fault in self.faults()]})

    def _post_fault(self, request: Request) -> Response:
        return json_response(201, _fields(self.add_fault(_json_object(request.body))))

    def _delete_faults(self, request: Request) -> Response:
        self.clear_faults()
        return message_response(200, "Successfully deleted")

    def _get_requests(
        self, request: Request, operation: str | None = None, status: str | None = None, since: str | None = None
    ) -> Response:
        if since is not None:
            since = re.sub(r" (\d\d:\d\d)$", r"+\1", since)  # In a query a `+` that is not escaped is a space.
        found = self.requests(operation, None if status is None else _number("status", status), since)
        requests = [{**asdict(request), "fault": request.fault and _fields(request.fault)} for request in found]
        return json_response(200, {"count": len(found), "forgotten": self._journal.forgotten, "requests": requests})

    def _delete_requests(self, request: Request) -> Response:
        self.clear_requests()
        return message_response(200, "Successfully deleted")

    async def _get_orders(
        self, request: Request, status: str | None = None, limit: str = "1000", **filters: str
    ) -> Response:
        if status is not None:
            filters["execution_status"] = status
        total, orders = await self.orders(filters, _whole("limit", _number("limit", limit), 1, MAX_ORDERS))
        return json_response(200, {"count": len(orders), "total": total, "orders": orders})

    def _fault_of(self, fields: Mapping[str, Any]) -> Fault:
        known = list(Fault.__dataclass_fields__)
        for field in fields:
            if field not in known:
                raise ControlError(f"unknown field {reprlib.repr(field)}; a fault has {', '.join(known)}")
        needed = ["operation", "kind"] if fields.get("kind") != Kind.DELAY else ["operation", "kind", "delay_ms"]
        for field in needed:
            if field not in fields:
                raise ControlError(f"{field} is missing; a fault has {', '.join(known)}")
        operation = self._by_id[_one_of("operation", fields["operation"], list(self._by_id))]
        kind = Kind(_one_of("kind", fields["kind"], list(Kind)))
        status: int | None = None
        if kind is Kind.ERROR:
            status = _one_of("status", fields.get("status", 500), operation.error_codes)
        elif "status" in fields:
            raise ControlError(f"status is for faults of the kind error, not {kind}")
        return Fault(
            operation=operation.operation_id,
            kind=kind,
            when=When(_one_of("when", fields.get("when", When.BEFORE), list(When))),
            status=status,
            delay_ms=_whole("delay_ms", fields.get("delay_ms", 0), 1 if kind is Kind.DELAY else 0, MAX_DELAY_MS),
            count=_whole("count", fields.get("count", 1), 1, MAX_COUNT),
        )


class Preferences:
    """What a request's `Prefer` header asks for (RFC 7240): `code=500`, `wait=2`, `drop`, each perhaps `when=after`."""

    def __init__(self, header: str, operation: Operation) -> None:
        """Read the header; other preferences are ignored, as they have to be. Raises ControlError."""
        given: dict[str, str] = {}
        for preference in parse_http_list(header):
            (name, value), *parameters = map(_name_and_value, preference.split(";"))
            given.setdefault(name, value)
            if name in FAULT_PREFERENCES:
                for parameter, value in parameters:
                    if parameter == "when":
                        given.setdefault("when", value)
        is_fault = any(name in given for name in FAULT_PREFERENCES)
        self._given = {name: given[name] for name in (*FAULT_PREFERENCES, "when") if is_fault and name in given}
        self.fault = self._fault(operation) if is_fault else None

    def __bool__(self) -> bool:
        """Return whether the request asks for anything itself, be it the normal answer."""
        return bool(self._given)

    def applied_to(self, response: Response) -> Response:
        """Return `response` with what has been applied of the preferences (RFC 7240 §3)."""
        applied = {
            name: value
            for name, value in self._given.items()
            if (value == str(response.status) if name == "code" else self.fault is not None)
        }
        if not applied:
            return response
        text = ", ".join(f"{name}={value}" for name, value in applied.items())
        return replace(response, headers={**response.headers, "Preference-Applied": text})

    def _fault(self, operation: Operation) -> Fault | None:
        given = self._given
        code = wait_ms = None
        if "code" in given:
            codes = {str(code): code for code in operation.examples}
            code = codes[_one_of("code", given["code"], list(codes))]
        if "wait" in given:
            if (
                not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", given["wait"])
                or float(given["wait"]) > MAX_DELAY_MS / 1000
            ):
                shown = reprlib.repr(given["wait"])
                raise ControlError(f"wait must be seconds from 0 to {MAX_DELAY_MS // 1000}, not {shown}")
            wait_ms = round(float(given["wait"]) * 1000)
        when = When(_one_of("when", given.get("when", When.BEFORE), list(When)))
        if "drop" in given:
            if given["drop"]:
                raise ControlError(f"drop takes no value, not {reprlib.repr(given['drop'])}")
            if code is not None:
                raise ControlError("drop and code exclude each other")
            kind = Kind.DROP
        elif code in operation.error_codes:
            kind = Kind.ERROR
        elif wait_ms is not None:
            kind = Kind.DELAY
        else:
            return None
        status = code if kind is Kind.ERROR else None
        return Fault(operation=operation.operation_id, kind=kind, when=when, status=status, delay_ms=wait_ms or 0)


def _name_and_value(text: str) -> tuple[str, str]:
    name, _, value = map(str.strip, text.partition("="))
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return name.lower(), value[1:-1] if is_quoted else value


def readable(raw: str) -> str:
    """Decode a value of a query string for a reader, who is shown what is not UTF-8 as U+FFFD."""
    return unquote_to_bytes(raw.replace("+", " ").encode("latin-1")).decode("utf-8", "replace")


def _query(query: str, parameters: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, values in split_query(query).items():
        if name not in parameters and (name or values != [""]):
            takes = f"this takes {', '.join(parameters)}" if parameters else "this takes none"
            raise ControlError(f"unknown parameter {reprlib.repr(name)}; {takes}")
        if len(values) > 1:
            raise ControlError(f"{name} is given more than once")
        try:
            if name:
                given[name] = decode(values[0])
        except UnicodeDecodeError:
            raise ControlError(f"{name} is not UTF-8") from None
    return given


def _fields(fault: Fault) -> dict[str, Any]:
    """Return a fault as JSON has it: without the status if it is no error."""
    return {name: value for name, value in asdict(fault).items() if value is not None}


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ControlError("the body must be a JSON object with the fields of a fault")
    return fields


def _one_of(name: str, value: Any, allowed: Sequence[T]) -> T:
    if isinstance(value, bool) or value not in allowed:
        raise ControlError(f"{name} must be one of {', '.join(map(str, allowed))}, not {reprlib.repr(value)}")
    return allowed[allowed.index(value)]


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # To JSON, 2.0 is a whole number.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ControlError(f"{name} must be a whole number from {low} to {high}, not {reprlib.repr(value)}")
    return value


def _number(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ControlError(f"{name} must be a whole number, not {reprlib.repr(text)}")
    return int(text)


def _time(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ControlError(f"{name} must be a time with its offset, 2026-01-31T12:00:00Z say, not {reprlib.repr(text)}")
