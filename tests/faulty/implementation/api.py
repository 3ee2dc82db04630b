"""The API: turns each request into a response."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.faulty.implementation.messages import Request, Response
from tests.faulty.implementation.parameters import InvalidParameter, MissingParameters, Parameters
from tests.faulty.implementation.store import Profile, Store

ASSIGN_PATH = "/orders/assign"
ACQUIRE_PATH = "/order/acquire"
CANCEL_PATH = "/order/cancel"

# A status and a message.
Answer = tuple[int, str]


@dataclass
class Operation:
    """An operation: its method, its parameters, the answer if one is missing, and the function that runs it."""

    method: str
    parameters: tuple[str, ...]
    missing: Answer
    run: Callable[..., Response]


class Api:
    """Answers requests."""

    CREATED: Answer = 200, "Successfully created"
    ALREADY_EXISTS: Answer = 400, "AssignedOrder with provided orderId already exists"
    ACQUIRED: Answer = 200, "Successfully acquired"
    NO_ORDERS: Answer = 200, "There are no orders assigned to you"
    CANCELED: Answer = 200, "Successfully canceled"
    NOT_ACTIVE: Answer = 200, "AssignedOrder with OrderId {} does not exist or has already been canceled"
    ASSIGN_MISSING: Answer = 400, "Missing parameters, please provide order_id, executor_id and zone_id"
    ACQUIRE_MISSING: Answer = 400, "Missing parameters, please provide executor_id"
    CANCEL_MISSING: Answer = 400, "Missing parameters, please provide order_id"
    INVALID: Answer = 400, "Invalid parameter {}: {}"
    NOT_FOUND: Answer = 404, "Not found"
    NOT_ALLOWED: Answer = 405, "Method not allowed"
    BAD_REQUEST: Answer = 400, "Bad request"
    ERROR: Answer = 500, "Unknown error"

    def __init__(self, store: Store, parameters: Parameters) -> None:
        self.store = store
        self.parameters = parameters
        self.operations = {
            ASSIGN_PATH: Operation("PUT", ("order_id", "executor_id", "zone_id"), self.ASSIGN_MISSING, self.assign),
            ACQUIRE_PATH: Operation("GET", ("executor_id",), self.ACQUIRE_MISSING, self.acquire),
            CANCEL_PATH: Operation("POST", ("order_id",), self.CANCEL_MISSING, self.cancel),
        }

    def answer(self, request: Request) -> Response:
        """Answer a request. An unexpected exception becomes an internal error."""
        try:
            return self.route(request)
        except Exception as error:
            return self.error(error)

    def route(self, request: Request) -> Response:
        """Run the operation that the path and the method name, or answer 404 or 405."""
        operation = self.operations.get(request.path)
        if operation is None:
            return self.not_found()
        if request.method != operation.method:
            return self.not_allowed(operation)
        return self.run(operation, request)

    def run(self, operation: Operation, request: Request) -> Response:
        """Run an operation with the parameters of a request."""
        try:
            arguments = self.parameters.read(request, operation.parameters)
        except MissingParameters as error:
            return self.missing(operation, error.names)
        except InvalidParameter as error:
            return self.invalid(error.name, error.problem)
        return operation.run(**arguments)

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Response:
        """Register an order that has been assigned to an executor."""
        return self.reply(self.CREATED if self.store.assign(order_id, executor_id, zone_id) else self.ALREADY_EXISTS)

    def acquire(self, executor_id: str) -> Response:
        """Give an executor the order assigned to them."""
        profile = self.store.acquire(executor_id)
        return self.no_orders(executor_id) if profile is None else self.acquired(profile)

    def cancel(self, order_id: str) -> Response:
        """Cancel an order."""
        return self.canceled(order_id) if self.store.cancel(order_id) else self.not_active(order_id)

    def acquired(self, profile: Profile) -> Response:
        """Answer an acquire with an order."""
        return self.reply(self.ACQUIRED, order_profile=profile)

    def no_orders(self, executor_id: str) -> Response:
        """Answer an acquire by an executor who has no active order."""
        return self.reply(self.NO_ORDERS)

    def canceled(self, order_id: str) -> Response:
        """Answer a cancel that succeeded."""
        return self.reply(self.CANCELED)

    def not_active(self, order_id: str) -> Response:
        """Answer a cancel of an order that is not active."""
        status, message = self.NOT_ACTIVE
        return self.reply((status, message.format(order_id)))

    def missing(self, operation: Operation, names: Sequence[str]) -> Response:
        """Answer a request that lacks the parameters `names`. The message lists all parameters (D8)."""
        return self.reply(operation.missing)

    def invalid(self, name: str, problem: str) -> Response:
        """Answer a request with an invalid parameter."""
        status, message = self.INVALID
        return self.reply((status, message.format(name, problem)))

    def not_found(self) -> Response:
        """Answer a request to any other path."""
        return self.reply(self.NOT_FOUND)

    def not_allowed(self, operation: Operation) -> Response:
        """Answer a request with any other method."""
        response = self.reply(self.NOT_ALLOWED)
        response.headers["Allow"] = operation.method
        return response

    def bad_request(self) -> Response:
        """Answer bytes that are not an HTTP request."""
        return self.reply(self.BAD_REQUEST)

    def error(self, error: Exception) -> Response:
        """Answer any internal error, without revealing what went wrong."""
        return self.reply(self.ERROR)

    def reply(self, answer: Answer, **more: object) -> Response:
        """Return a response in JSON."""
        status, message = answer
        return Response(status, self.encode({"message": message, **more}), self.headers())

    def headers(self) -> dict[str, str]:
        """Return the headers of every response."""
        return {"Content-Type": "application/json", "Cache-Control": "no-store"}

    def encode(self, document: dict[str, object]) -> bytes:
        """Encode a document as JSON."""
        return json.dumps(document).encode()
