"""The app: hands each request to the handler of its path and method."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPConnection, HTTPServerConnectionDelegate

from orders.conformance import check
from orders.contract import Contract, Operation
from orders.http.cors import Cors
from orders.http.docs import Definition, make_pages
from orders.http.errors import ErrorLog
from orders.http.exchange import AccessLog, Exchange, Handler, InFlight, Request
from orders.http.query import ParameterError, read_arguments
from orders.http.responses import Response, json_response, message_response
from orders.lifecycle import Orders
from orders.operations import OPERATIONS, Result
from orders.storage.sets import DatabaseUnusable

logger = logging.getLogger("orders")


class App(HTTPServerConnectionDelegate):
    """An app for Tornado's `HTTPServer`: the operations of the contract, `/health` and the documentation.

    `handler` answers every request. The test controls replace it with a handler that does more.
    """

    def __init__(
        self, contract: Contract, orders: Orders, access_log: AccessLog | None = None, cors: Cors | None = None
    ) -> None:
        """Answer requests from `orders`. Raises DocumentError if the code and the contract differ."""
        check(contract)
        self.common_responses = {
            name: message_response(answer.status, answer.message()) for name, answer in contract.common_answers.items()
        }
        self.in_flight = InFlight()
        self._errors = ErrorLog()
        self.access_log = access_log
        self.cors = cors
        self.handler: Handler = self._route
        self._routes: dict[str, dict[str, Handler]] = {}  # Path -> method -> handler.
        self.add_route("/health", ("GET", "HEAD"), _health_handler(orders))
        self.add_pages(make_pages(Definition("Orders service", "/", contract.document)))
        for operation in contract.operations:
            handler = _operation_handler(operation, OPERATIONS[operation.operation_id], orders)
            self.add_route(operation.path, [operation.method], handler)

    def add_route(self, path: str, methods: Iterable[str], handler: Handler) -> None:
        """Let a handler answer these methods of a path."""
        self._routes.setdefault(path, {}).update(dict.fromkeys(methods, handler))

    def add_pages(self, pages: Mapping[str, Response]) -> None:
        """Answer GET and HEAD of more paths, each path with a fixed response."""
        for path, page in pages.items():
            self.add_route(path, ("GET", "HEAD"), _page_handler(page))

    def paths(self) -> set[str]:
        """Return the paths that have a handler."""
        return set(self._routes)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Exchange:
        """Return the exchange that receives the next request on a connection."""
        connection = cast(HTTP1Connection, request_conn)
        unknown_error = self.common_responses["UnknownError"]
        return Exchange(
            self.handler, connection, unknown_error, self._errors, self.in_flight, self.access_log, self.cors
        )

    async def _route(self, request: Request) -> Response:
        """Pass a request to the handler of its path and method."""
        methods = self._routes.get(request.path)
        if methods is None:
            return self.common_responses["NotFound"]
        handler = methods.get(request.method)
        if handler is not None:
            return await handler(request)
        preflight = self.cors and self.cors.preflight(request.method, request.headers, methods)
        # RFC 9110 §15.5.6
        return preflight or replace(self.common_responses["MethodNotAllowed"], headers={"Allow": ", ".join(methods)})


def _operation_handler(operation: Operation, function: Callable[..., Awaitable[Result]], orders: Orders) -> Handler:
    # Answers without values are always the same, so each is made once. Most polls get one: they find no order.
    fixed = {
        name: message_response(answer.status, answer.message())
        for name, answer in operation.answers.items()
        if len(answer.texts) == len(answer.properties) == 1
    }

    async def handle(request: Request) -> Response:
        try:
            arguments = read_arguments(operation, request.query)
        except ParameterError as error:
            return message_response(error.status, str(error))
        result = await function(orders, **arguments)
        return fixed.get(type(result).__name__) or _response(operation, result)

    return handle


def _response(operation: Operation, result: Result) -> Response:
    """Return the response that the contract has for a result."""
    answer = operation.answers[type(result).__name__]
    values = result._asdict()
    properties = {name: values.pop(name) for name in answer.properties if name in values}
    return json_response(answer.status, {"message": answer.message(*values.values()), **properties})


def _health_handler(orders: Orders) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            await orders.ping()
        except Exception as error:
            logger.warning("the database does not answer: %s", error)
            reason = str(error) if isinstance(error, DatabaseUnusable) else "the database does not answer"
            return json_response(503, {"status": "unavailable", "reason": reason})
        return json_response(200, {"status": "ok"})

    return handle


def _page_handler(page: Response) -> Handler:
    async def handle(request: Request) -> Response:
        return page

    return handle
