"""The app: hands each request to the handler of its path and method. The contract has the paths of the operations."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPConnection, HTTPServerConnectionDelegate

from orders.conformance import check
from orders.contract import Contract, Operation
from orders.http.cors import Cors
from orders.http.docs import Definition, make_pages
from orders.http.exchange import Exchange, Handler, InFlight, Request
from orders.http.query import ParameterError, read_arguments
from orders.http.responses import Response, json_response, message_response
from orders.lifecycle import Orders
from orders.operations import OPERATIONS, Result
from orders.server.log import AccessLog
from orders.storage.sets import DatabaseUnusable

logger = logging.getLogger("orders")

Routes = Mapping[str, Mapping[str, Handler]]


class App(HTTPServerConnectionDelegate):
    """The service as an app. Serve it with Tornado's `HTTPServer`.

    It answers the operations of the contract, `/health` and the documentation. `handler` answers every request. It can
    be replaced by one that does more, as the test controls do.
    """

    def __init__(
        self, contract: Contract, orders: Orders, access_log: AccessLog | None = None, cors: Cors | None = None
    ) -> None:
        """Answer from `orders`. Raises DocumentError if the server does not do what the contract says."""
        check(contract)
        self.common_responses = {
            name: message_response(answer.status, answer.message()) for name, answer in contract.common_answers.items()
        }
        self.in_flight = InFlight()
        self.access_log = access_log
        self.cors = cors
        self.handler: Handler = self._route
        self._routes: dict[str, Mapping[str, Handler]] = {}
        health = _health_handler(orders)
        self.add_routes({"/health": {"GET": health, "HEAD": health}})
        self.add_pages(make_pages(Definition("Orders service", "/", contract.document)))
        for operation in contract.operations:
            handler = _operation_handler(operation, OPERATIONS[operation.operation_id], orders)
            self.add_routes({operation.path: {**self._routes.get(operation.path, {}), operation.method: handler}})

    def add_routes(self, routes: Routes) -> None:
        """Answer more paths, each with the methods that have a handler."""
        self._routes.update(routes)

    def add_pages(self, pages: Mapping[str, Response]) -> None:
        """Answer GET and HEAD of more paths, each with the same response every time."""
        for path, page in pages.items():
            handler = _page_handler(page)
            self._routes[path] = {"GET": handler, "HEAD": handler}

    def paths(self) -> set[str]:
        """Return the paths that the app answers with anything but 404."""
        return set(self._routes)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Exchange:
        """Return the exchange that receives the next request on a connection."""
        connection = cast(HTTP1Connection, request_conn)
        unknown_error = self.common_responses["UnknownError"]
        return Exchange(self.handler, connection, unknown_error, self.in_flight, self.access_log, self.cors)

    async def _route(self, request: Request) -> Response:
        """Pass a request to the handler of its path and method."""
        methods = self._routes.get(request.path)
        if methods is None:
            return self.common_responses["NotFound"]
        handler = methods.get(request.method)
        if handler is None:
            allowed = None
            if self.cors is not None:
                allowed = self.cors.preflight(request.method, request.headers, list(methods))
            # RFC 9110 §15.5.6
            refusal = replace(self.common_responses["MethodNotAllowed"], headers={"Allow": ", ".join(methods)})
            return allowed or refusal
        return await handler(request)


def _operation_handler(operation: Operation, function: Callable[..., Awaitable[Result]], orders: Orders) -> Handler:
    # Most polls find no order. These answers are always the same, so each is made once.
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
            await orders.check()
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
