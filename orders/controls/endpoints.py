"""The test controls over HTTP. Their paths, methods and query parameters come from `controls.yaml`."""

import json
import re
from collections.abc import Mapping
from typing import Any

from orders.contract import RESERVED_PREFIX, Contract
from orders.controls.middleware import Controls
from orders.controls.schemas import DOCUMENT, PARAMETERS, ControlError, Schema, check_parameters
from orders.http.app import App
from orders.http.cors import ORIGIN, Cors
from orders.http.docs import Definition, make_pages
from orders.http.exchange import Handler, Request
from orders.http.query import decode, split_query
from orders.http.responses import Response, json_response, message_response
from orders.lifecycle import Orders

OWN_HOST = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:]+\])(:[0-9]+)?")


def add_controls(
    app: App, contract: Contract, orders: Orders, cors: Cors | None = None, host: str | None = "localhost"
) -> Controls:
    """Put test controls between an app and its operations, and add their paths to the app; return the controls.

    Web pages of another origin may use the controls only if `cors` allows that origin by name. `host` is the name of
    the server in URLs, besides IP addresses and `localhost`, or None if it may have any name.
    """
    controls = Controls(app, contract, orders)
    app.handler = controls.handle
    for path, methods in DOCUMENT.data["paths"].items():
        for method, control in methods.items():
            app.add_route(path, [method.upper()], _handler(control, controls, cors, host))
    service = Definition("Orders service", "/", contract.document)
    app.add_pages(make_pages(service, Definition("Test controls", f"{RESERVED_PREFIX}controls/", DOCUMENT)))
    return controls


def _handler(control: Mapping[str, Any], controls: Controls, cors: Cors | None, host: str | None) -> Handler:
    name = control["operationId"]
    success = int(min(control["responses"]))  # The statuses of errors are greater.

    async def handle(request: Request) -> Response:
        if (refusal := _refusal(request.headers, cors, host)) is not None:
            return refusal
        try:
            parameters = check_parameters(name, _read_query(request.query, PARAMETERS[name]))
            return json_response(success, await _run(name, controls, request.body, parameters))
        except ControlError as error:
            return message_response(400, str(error))
        except RecursionError:
            return message_response(400, "the body is nested too deeply")

    return handle


async def _run(name: str, controls: Controls, body: bytes, parameters: Mapping[str, Any]) -> Any:
    """Run the control with an operationId; return the content of its answer. Raises ControlError."""
    match name:
        case "reset":
            await controls.reset()
            return {"message": "Successfully reset"}
        case "list_faults":
            return {"faults": [fault.as_json() for fault in controls.faults]}
        case "add_fault":
            return controls.add_fault(_read_json(body)).as_json()
        case "delete_faults":
            controls.faults.clear()
            return {"message": "Successfully deleted"}
        case "list_requests":
            found = [request.as_json() for request in controls.journal.find(**parameters)]
            return {"count": len(found), "forgotten": controls.journal.forgotten, "requests": found}
        case "delete_requests":
            controls.journal.clear()
            return {"message": "Successfully deleted"}
        case "list_orders":
            total, orders = await controls.orders(**parameters)
            return {"count": len(orders), "total": total, "orders": orders}
        case "add_orders":
            return {"orders": await controls.add_orders(_read_json(body))}


def _refusal(headers: Mapping[str, str], cors: Cors | None, own_host: str | None) -> Response | None:
    """Return the answer to a web page that may not use the controls; None if the request may use them.

    A browser lets every page send a POST to every server. A page with the same host as the request is from this server
    if the host is an address or `localhost`. Any other name may belong to a foreign page and lead here (DNS rebinding).
    """
    origin, host = headers.get("Origin"), headers.get("Host", "")
    if origin is not None and cors is not None and cors.allows_by_name(origin):
        return None
    is_own = OWN_HOST.fullmatch(host) is not None or host.partition(":")[0] == own_host
    if not is_own and own_host is not None:
        return message_response(403, f"The controls are not at {host}, but at an IP address or localhost")
    if origin is None:
        if headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            return None
        return message_response(403, "Pages of other origins may not use the controls")
    if is_own and origin == f"http://{host}":
        return None
    if not ORIGIN.fullmatch(origin):
        return message_response(403, "Pages without an origin may not use the controls")
    return message_response(403, f"Pages of {origin} may not use the controls; --cors-origin {origin} allows it")


def _read_json(body: bytes) -> Any:
    """Return the content of a body. Raises ControlError."""
    try:
        return json.loads(body)
    except ValueError:
        raise ControlError("the body must be JSON") from None


def _read_query(query: str, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the parameters in a raw query string, with the types of their schemas. Raises ControlError."""
    values: dict[str, Any] = {}
    for name, (raw, *others) in split_query(query).items():
        if others:
            raise ControlError(f"{name} is given more than once")
        try:
            values[name] = text = decode(raw)
        except UnicodeDecodeError:
            raise ControlError(f"{name} is not UTF-8") from None
        match schemas.get(name):
            case {"type": "integer"} if re.fullmatch("[0-9]{1,9}", text):
                values[name] = int(text)
            case {"format": "date-time"}:
                values[name] = re.sub(r" (\d\d:\d\d)$", r"+\1", text)  # `decode` has made a space of an unescaped `+`.
    if values.get("") == "":
        del values[""]  # An empty query is one empty field.
    return values
