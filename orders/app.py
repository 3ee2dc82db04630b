"""Makes the app: hands each request to the handler of its path and method. The API's routes come from the contract."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPConnection, HTTPServerConnectionDelegate

from orders.contract import Contract, ContractError, Operation, ParameterError
from orders.controls import Controls
from orders.cors import Cors
from orders.docs import make_pages
from orders.exchange import Exchange, Handler, InFlight, Request
from orders.lifecycle import Orders
from orders.logs import AccessLog
from orders.operations import OPERATIONS
from orders.responses import NOT_FOUND, Response, json_response, message_response, method_not_allowed

logger = logging.getLogger("orders")

Routes = Mapping[str, Mapping[str, Handler]]


class App(HTTPServerConnectionDelegate):
    """Hands each request to a handler. Serve it with Tornado's `HTTPServer`."""

    def __init__(self, handler: Handler, access_log: AccessLog | None = None, cors: Cors | None = None) -> None:
        self.in_flight = InFlight()
        self._handler = handler
        self._access_log = access_log
        self._cors = cors

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Exchange:
        """Return the exchange that receives the next request on a connection."""
        connection = cast(HTTP1Connection, request_conn)
        return Exchange(self._handler, connection, self.in_flight, self._access_log, self._cors)


def make_app(
    contract: Contract,
    orders: Orders,
    access_log: AccessLog | None = None,
    *,
    cors: Cors | None = None,
    controls: Controls | None = None,
) -> App:
    """Return the service as an app for Tornado's `HTTPServer`.

    It answers the operations of `contract` from `orders`. It also serves `/health`, the documentation, and the test
    controls if there are any. Raises ContractError if the contract and `orders.operations` differ.
    """
    check_operations(contract, OPERATIONS)
    routes: dict[str, dict[str, Handler]] = {}
    for operation in contract.operations:
        handler = _operation_handler(operation, OPERATIONS[operation.operation_id], orders)
        routes.setdefault(operation.path, {})[operation.method] = handler
    pages = make_pages(contract, None if controls is None else controls.document)
    for path, handler in {"/health": _health_handler(orders), **_page_handlers(pages)}.items():
        routes.setdefault(path, {"GET": handler, "HEAD": handler})
    route = _router(routes if controls is None else {**routes, **controls.routes}, cors)
    if controls is not None:
        route = controls.around(route, routes.keys() - {operation.path for operation in contract.operations})
    return App(route, access_log, cors)


def _router(routes: Routes, cors: Cors | None) -> Handler:
    """Return a handler that passes each request to the handler of its path and method."""

    async def route(request: Request) -> Response:
        methods = routes.get(request.path)
        if methods is None:
            return NOT_FOUND
        handler = methods.get(request.method)
        if handler is None:
            allowed = None if cors is None else cors.preflight(request.method, request.headers, list(methods))
            return allowed or method_not_allowed(list(methods))
        return await handler(request)

    return route


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


def _page_handlers(pages: Mapping[str, Response]) -> dict[str, Handler]:
    def handler(page: Response) -> Handler:
        async def handle(request: Request) -> Response:
            return page

        return handle

    return {path: handler(page) for path, page in pages.items()}
