"""The test controls of an app: middleware between HTTP and the operations.

Each request of an operation passes these steps:

    a running reset ............. wait for its end
    the journal ................. record the request
    a fault ..................... from the request's own `Prefer` header, or the next one for the operation
        before .................. delay; then break the connection off, answer an error, or go on
        the operation itself .... its transaction is committed
        after ................... delay; then break the connection off, answer an error, or go on
    the journal ................. record the answer
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orders.contract import RESERVED_PREFIX, Contract, Operation
from orders.controls.faults import Fault, error_response, make_fault, take_fault
from orders.controls.journal import Journal, Outcome, RecordedRequest
from orders.controls.orders import make_orders
from orders.controls.prefer import mark_applied, preferred_fault, read_preferences
from orders.controls.schemas import ControlError
from orders.http.app import App
from orders.http.exchange import NoAnswer, Request
from orders.http.responses import Response, first_half, message_response
from orders.lifecycle import Orders, Row


class Controls:
    """The faults to come, the journal, the stored orders, and reset. Use it on the event loop's thread only."""

    def __init__(self, app: App, contract: Contract, orders: Orders) -> None:
        """Control and record the requests of `app`, except those of its pages. `handle` must be the app's handler."""
        self.faults: list[Fault] = []
        self.journal = Journal()
        self._operations = {(operation.method, operation.path): operation for operation in contract.operations}
        self._unrecorded = app.paths() - {operation.path for operation in contract.operations}
        self._handler = app.handler
        self._unknown_error = app.common_responses["UnknownError"]
        # This refusal does not say that the request is wrong: a repeated assign gets it too (D3).
        self._already_exists = {
            message_response(answer.status, answer.message()).body
            for operation in contract.operations
            for name, answer in operation.answers.items()
            if name == "OrderAlreadyExists"
        }
        self._orders = orders
        self._reset_lock = asyncio.Lock()  # New requests wait for a reset, which holds it.
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._delays_end = asyncio.Event()  # While it is set, no fault delays a request.
        self._is_closed = False

    def add_fault(self, fields: Any) -> Fault:
        """Add a fault with these fields, and defaults for the others; return it. Raises ControlError."""
        fault = make_fault(fields)
        for operation in self._operations.values():
            known = [parameter.name for parameter in operation.parameters]
            if fault.operation == operation.operation_id and (unknown := fault.ids().keys() - {*known}):
                raise ControlError(f"{fault.operation} has no {', '.join(unknown)}; it has {', '.join(known)}")
        self.faults.append(fault)
        return fault

    async def reset(self) -> None:
        """End all delays, wait for the requests in flight, and forget all orders, faults and requests."""
        async with self._reset_lock:
            self._delays_end.set()
            try:
                if self._in_flight:
                    await asyncio.wait(self._in_flight)
                await self._orders.delete_orders()
                self.faults.clear()
                self.journal.clear()
            finally:
                if not self._is_closed:
                    self._delays_end.clear()

    async def add_orders(self, fields: Any) -> list[Row]:
        """Store the orders in the body of a request, in any state: all of them or none. Raises ControlError."""
        rows = make_orders(fields)
        known, busy = await self._orders.add_orders(rows)
        if known:
            raise ControlError(f"the order_id {known[0]!r} is stored already")
        if busy:
            raise ControlError(f"the executor_id {busy[0]!r} has a stored active order, and can have only one")
        return rows

    async def orders(self, *, limit: int, status: str | None = None, **ids: str) -> tuple[int, list[Row]]:
        """Return the number of stored orders that match, and the `limit` newest of them, the oldest first."""
        return await self._orders.orders(ids if status is None else {**ids, "execution_status": status}, limit)

    def close(self) -> None:
        """End all delays, now and later, because the server stops."""
        self._is_closed = True
        self._delays_end.set()

    async def handle(self, request: Request) -> Response:
        """Answer a request, with its fault if it has one. Raises NoAnswer."""
        if request.path in self._unrecorded or request.path.startswith(RESERVED_PREFIX):
            response = await self._handler(request)
        else:
            response = await self._record(request)
        if request.headers.get("User-Agent", "").startswith("Mozilla/"):
            # If a connection that was used before closes without an answer, a browser repeats the request by itself.
            # That would hide a drop.
            response = replace(response, headers={**response.headers, "Connection": "close"})
        return response

    async def _record(self, request: Request) -> Response:
        async with self._reset_lock:
            task = asyncio.current_task()
            assert task is not None
            self._in_flight.add(task)
        operation = self._operations.get((request.method, request.path))
        recorded = self.journal.add(request, operation.operation_id if operation else None)
        started = time.perf_counter()
        outcome = Outcome.ANSWERED
        response: Response | None = self._unknown_error  # If the handler raises an error, the client gets this.
        try:
            if operation is None:
                response = await self._answer_normally(request, recorded)
            else:
                response = await self._answer(request, operation, recorded)
            return response
        except NoAnswer as no_answer:
            outcome, response = Outcome(no_answer.ending), no_answer.beginning
            raise
        finally:
            if outcome == Outcome.ANSWERED and request.is_abandoned():
                outcome = Outcome.ABANDONED
            recorded.end(outcome, response, duration_s=time.perf_counter() - started)
            self._in_flight.discard(task)

    async def _answer(self, request: Request, operation: Operation, recorded: RecordedRequest) -> Response:
        try:
            preferences = read_preferences(request.headers.get("Prefer", ""))
            if preferences:
                fault = preferred_fault(preferences, operation)
            else:
                fault = take_fault(self.faults, operation, recorded.parameters)
        except ControlError as error:
            recorded.mistake = True
            return message_response(400, f"Invalid header Prefer: {error}")
        recorded.fault = fault
        if fault is None:
            response = await self._answer_normally(request, recorded)
        elif fault.when == "before":
            response = await self._apply(fault, operation) or await self._answer_normally(request, recorded)
        else:
            answer = await self._answer_normally(request, recorded)
            response = await self._apply(fault, operation, answer) or answer
        return mark_applied(response, preferences, fault)

    async def _answer_normally(self, request: Request, recorded: RecordedRequest) -> Response:
        """Answer a request without a fault, and record whether the client has made a mistake."""
        response = await self._handler(request)
        recorded.mistake = 400 <= response.status < 500 and response.body not in self._already_exists
        return response

    async def _apply(self, fault: Fault, operation: Operation, answer: Response | None = None) -> Response | None:
        """Wait for a fault's delay; return its error, or None if it has none.

        `answer` is the operation's answer if its transaction is committed. Raises NoAnswer.
        """
        if fault.delay_ms:
            with suppress(TimeoutError):
                async with asyncio.timeout(fault.delay_ms / 1000):
                    await self._delays_end.wait()
        match fault.kind:
            case "error":
                return error_response(fault, operation)
            case "delay":
                return None
            case "drop":
                raise NoAnswer("dropped")
            case "reset":
                raise NoAnswer("reset")
            case "truncate":
                assert answer is not None
                raise NoAnswer("truncated", first_half(answer))
