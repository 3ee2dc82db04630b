"""Makes the app: hands each request to the handler of its path and method. The API's routes come from the contract."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPConnection, HTTPServerConnectionDelegate

from orders.contract import Contract, ContractError, Operation, ParameterError
from orders.http.cors import Cors
from orders.http.docs import Definition, make_pages
from orders.http.exchange import Exchange, Handler, InFlight, Request
from orders.http.responses import NOT_FOUND, Response, json_response, message_response, method_not_allowed
from orders.lifecycle import Orders
from orders.operations import OPERATIONS
from orders.server.log import AccessLog

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
        """Answer from `orders`. Raises ContractError if the contract and `orders.operations` differ."""
        check_operations(contract, OPERATIONS)
        self.in_flight = InFlight()
        self.access_log = access_log
        self.cors = cors
        self.handler: Handler = self._route
        self._routes: dict[str, Mapping[str, Handler]] = {}
        for operation in contract.operations:
            handler = _operation_handler(operation, OPERATIONS[operation.operation_id], orders)
            self._routes[operation.path] = {**self._routes.get(operation.path, {}), operation.method: handler}
        health = _health_handler(orders)
        self.add_routes({"/health": {"GET": health, "HEAD": health}})
        self.add_pages(make_pages(Definition("Orders service", "/", contract.document)))

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
        return Exchange(self.handler, connection, self.in_flight, self.access_log, self.cors)

    async def _route(self, request: Request) -> Response:
        """Pass a request to the handler of its path and method."""
        methods = self._routes.get(request.path)
        if methods is None:
            return NOT_FOUND
        handler = methods.get(request.method)
        if handler is None:
            allowed = None
            if self.cors is not None:
                allowed = self.cors.preflight(request.method, request.headers, list(methods))
            return allowed or method_not_allowed(list(methods))
        return await handler(request)


def check_operations(contract: Contract, functions: Mapping[str, Callable[..., Awaitable[Response]]]) -> None:
    """Raise ContractError, which names the difference, unless operations and functions match."""
    operations = {operation.operation_id: operation for operation in contract.operations}
    if missing := sorted(operations.keys() - functions.keys()):
        raise ContractError(f"the contract has {', '.join(missing)}, for which orders.operations has no function")
    if missing := sorted(functions.keys() - operations.keys()):
        raise ContractError(f"orders.operations has {', '.join(missing)}, which the contract does not have")
    for operation_id, operation in operations.items():
        _, *arguments = inspect.signature(functions[operation_id]).parameters
        parameters = [parameter.name for parameter in operation.parameters]
        if set(arguments) != set(parameters):
            raise ContractError(
                f"{operation_id} has the parameters {', '.join(parameters)} in the contract"
                f" and {', '.join(arguments)} in orders.operations"
            )


def _operation_handler(operation: Operation, function: Callable[..., Awaitable[Response]], orders: Orders) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            arguments = operation.arguments(request.query)
        except ParameterError as error:
            return message_response(400, str(error))
        return await function(orders, **arguments)

    return handle


def _health_handler(orders: Orders) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            await orders.check()
        except Exception as error:
            logger.warning("the database does not answer: %s", error)
            return json_response(503, {"status": "unavailable"})
        return json_response(200, {"status": "ok"})

    return handle


def _page_handler(page: Response) -> Handler:
    async def handle(request: Request) -> Response:
        return page

    return handle
