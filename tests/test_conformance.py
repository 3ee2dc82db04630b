"""The contract has the last word: the server follows a changed document, or refuses it."""

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from jsonschema import Draft202012Validator
from tornado.httputil import HTTPHeaders

from orders.conformance import check
from orders.contract import METHODS, contract_path, read_contract
from orders.http.app import App
from orders.http.exchange import Request
from orders.http.responses import Response
from orders.lifecycle import Orders
from orders.openapi import ANNOTATIONS, Document, DocumentError, load_document
from orders.storage.database import DatabaseURL

DOCUMENT = load_document(contract_path()).data


class Change(NamedTuple):
    """A document with one fact changed, and what that is."""

    what: str
    document: Any


def changes() -> Iterator[Change]:
    """Yield the document with each of its facts changed, removed or renamed, one at a time."""
    for section in ("openapi", "servers", "security", "paths", "x-common-responses", "components"):
        for place in places(DOCUMENT[section], (section,)):
            *parents, key = place
            siblings = at(DOCUMENT, parents)
            variants = [{**siblings, key: value} for value in other_values(siblings[key])] if is_dict(siblings) else []
            if is_dict(siblings):
                variants.append({name: value for name, value in siblings.items() if name != key})
                variants.append({other_name(name) if name == key else name: value for name, value in siblings.items()})
            for variant in variants:
                document = copy.deepcopy(DOCUMENT)
                if parents:
                    at(document, parents[:-1])[parents[-1]] = variant
                else:
                    document = variant
                if json.dumps(document) != json.dumps(DOCUMENT):
                    yield Change(f"{'/'.join(map(str, parents))}: {variant}", document)


def is_dict(part: Any) -> bool:
    """Return whether a part of a document has named parts. The values of a list are changed with the list."""
    return isinstance(part, dict)


def places(part: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each part of a document, without annotations."""
    yield place
    for key, value in part.items() if is_dict(part) else enumerate(part) if isinstance(part, list) else ():
        if key not in ANNOTATIONS:
            yield from places(value, (*place, key))


def at(document: Any, place: Any) -> Any:
    """Return the part of a document at a place."""
    for key in place:
        document = document[key]
    return document


def other_values(value: Any) -> list[Any]:
    """Return values that differ from a value. The server can follow some of them."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 0]
    if isinstance(value, list):
        return [value[::-1], value[1:], [*value, "more"]]
    if isinstance(value, dict):
        return [dict(reversed(value.items())), {**value, "more": {}}]
    if value.startswith("^"):
        replacements = [("[^", "[^z"), ("with", "by"), ("order_id", "id"), ("S]+", "S]")]
        return [value.replace(old, new) for old, new in replacements]
    return [f"{value}x", value.replace("order", "task")]


def other_name(name: str) -> str:
    """Return another name of the same kind: another status code, another method, or just another name."""
    if name.isdigit():
        return "409"
    return "patch" if name in METHODS else f"{name}x"


class InProcessServer:
    """A server with a contract of its own, without a network."""

    def __init__(self, document: Any) -> None:
        """Start. Raises DocumentError if the server refuses the document."""
        self.document = document
        contract = read_contract(Document(b"", b"", document))
        check(contract)
        self.operations = {operation.operation_id: operation for operation in contract.operations}
        self.orders = Orders(DatabaseURL.parse("sqlite:///:memory:"))
        self.app = App(contract, self.orders)

    async def call(self, operation_id: str, **parameters: str) -> Response:
        """Call an operation where the document says it is."""
        for path, methods in self.document["paths"].items():
            for method, definition in methods.items():
                if definition["operationId"] == operation_id:
                    query = "&".join(f"{name}={value}" for name, value in parameters.items())
                    return await self.send(method.upper(), path, query)
        raise AssertionError(f"the document has no {operation_id}")

    async def send(self, method: str, path: str, query: str = "") -> Response:
        """Send a request that need not be for an operation."""
        return await self.app.handler(Request(method, path, query, HTTPHeaders(), b"", lambda: False))

    def expect(self, response: Response, schema: str, operation_id: str | None = None) -> None:
        """Check that a response is the one with this schema in the document."""
        statuses = [int(code) for code, found in self.schemas_of(operation_id) if found == schema]
        body = json.loads(response.body)
        assert [response.status] == statuses, f"{operation_id}: {response} instead of {schema} with {statuses}"
        whole = {"$ref": f"#/components/schemas/{schema}", "components": self.document["components"]}
        validator = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
        errors = [error.message for error in validator.iter_errors(body)]
        assert not errors, f"{operation_id}: {response} breaks {schema}: {errors}"
        if schema == "OrderAcquired":
            columns = self.document["components"]["schemas"]["OrderProfile"]["properties"]
            assert list(body["order_profile"]) == list(columns), f"the columns of {response}"

    def schemas_of(self, operation_id: str | None) -> Iterator[tuple[str, str]]:
        """Yield the status code and the name of the schema of each answer of an operation, or of any request."""
        responses = self.document["x-common-responses"]
        for methods in self.document["paths"].values():
            for definition in methods.values():
                if definition["operationId"] == operation_id:
                    responses = definition["responses"]
        for code, response in responses.items():
            if "$ref" in response:
                response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
            schema = response["content"]["application/json"]["schema"]
            for branch in schema.get("oneOf", [schema]):
                yield code, branch["$ref"].rpartition("/")[2]


async def every_answer(server: InProcessServer) -> None:
    """Make a server give each of its answers, and check that it is the one of the document."""
    identifier = server.document["components"]["schemas"]["Identifier"]
    order, executor, zone = (letter * identifier["minLength"] for letter in "abc")
    assign = {"order_id": order, "executor_id": executor, "zone_id": zone}
    for operation_id, parameters, schema in [
        ("acquire_order", {"executor_id": executor}, "NoOrders"),
        ("assign_order", assign, "OrderCreated"),
        ("assign_order", assign, "OrderAlreadyExists"),
        ("acquire_order", {"executor_id": executor}, "OrderAcquired"),
        ("cancel_order", {"order_id": order}, "OrderCanceled"),
        ("cancel_order", {"order_id": order}, "OrderNotActive"),
        ("cancel_order", {"order_id": "a" * identifier["maxLength"]}, "OrderNotActive"),
        ("cancel_order", {"order_id": "a" * identifier["maxLength"] + "a"}, "ParameterInvalid"),
        ("cancel_order", {"order_id": "%00"}, "ParameterInvalid"),
        ("acquire_order", {"executor_id": "%00"}, "ParameterInvalid"),
        ("assign_order", {**assign, "zone_id": "%00"}, "ParameterInvalid"),
        ("assign_order", {}, "AssignParametersMissing"),
        ("acquire_order", {}, "AcquireParametersMissing"),
        ("cancel_order", {}, "CancelParametersMissing"),
    ]:
        server.expect(await server.call(operation_id, **parameters), schema, operation_id)
    server.expect(await server.send("GET", "/nothing"), "NotFound")
    server.expect(await server.send("BREW", server.operations["assign_order"].path), "MethodNotAllowed")
    for name in ("BadRequest", "UnknownError"):
        server.expect(server.app.common_responses[name], name)


def refusal_of(document: Any) -> str | None:
    """Return why the server refuses a document, or None if it follows. Raises AssertionError if it does neither."""

    async def run() -> str | None:
        try:
            server = InProcessServer(document)
        except DocumentError as error:
            return str(error)
        try:
            await every_answer(server)
        finally:
            await server.orders.close()
        return None

    return asyncio.run(run())


def test_the_server_does_what_the_contract_says() -> None:
    """Each kind of answer has the status, the message and the schema of the document (D11)."""
    assert refusal_of(DOCUMENT) is None


def test_the_server_follows_or_refuses_each_change_of_the_contract() -> None:
    """For each fact of the document that is changed, the server does the new thing, or refuses to start in one line."""
    followed: list[str] = []
    refused: list[str] = []
    ignored: list[str] = []
    for change in changes():
        try:
            refusal = refusal_of(change.document)
        except AssertionError as error:
            ignored.append(f"{change.what}\n    {error}")
        else:
            (followed if refusal is None else refused).append(change.what)
            assert "\n" not in (refusal or ""), f"{change.what}: {refusal}"
    assert not ignored, "\n".join(ignored)
    assert len(followed) > 50 and len(refused) > 200, f"{len(followed)} are followed, {len(refused)} refused"


@pytest.mark.parametrize(
    ("place", "value", "refusal"),
    [
        (["openapi"], "3.0.3", "the version of OpenAPI: '3.0' in the contract, '3.1' in the server"),
        (
            ["paths", "/order/cancel", "post", "operationId"],
            "acquire_order",
            "operations: ['assign_order', 'acquire_order', 'acquire_order'] in the contract, "
            "['assign_order', 'acquire_order', 'cancel_order'] in the server",
        ),
        (
            ["components", "parameters", "zone_id", "name"],
            "zone",
            "assign_order: parameters: ['order_id', 'executor_id', 'zone'] in the contract, "
            "['order_id', 'executor_id', 'zone_id'] in the server",
        ),
        (
            ["components", "schemas", "Identifier", "minLength"],
            0,
            "parameter order_id: minLength must be from 1 to maxLength, not 0",
        ),
        (
            ["components", "schemas", "ExecutionStatus", "enum"],
            ["assigned", "acquired"],
            "OrderProfile: execution_status: {'type': 'string', 'enum': ['assigned', 'acquired']} in the contract, "
            "{'type': 'string', 'enum': ['assigned', 'acquired', 'completed', 'cancelled']} in the server",
        ),
    ],
)
def test_a_refusal_names_the_difference(place: list[str], value: Any, refusal: str) -> None:
    """The server says in one line what the contract has and what it has itself."""
    document = copy.deepcopy(DOCUMENT)
    *parents, key = place
    at(document, parents)[key] = value
    assert refusal_of(document) == refusal


@pytest.mark.parametrize(
    "order_id", ['"', "\\", "é", "😀", "\u2028", "%20a%20", "%25s", "$$order_id", "{}", "</script>"]
)
def test_cancel_repeats_the_id_as_it_was_read(order_id: str) -> None:
    """Whatever the id looks like, cancel names exactly that id (D7)."""

    async def cancel() -> Response:
        server = InProcessServer(DOCUMENT)
        response = await server.call("cancel_order", order_id=order_id.encode().decode("latin-1"))
        await server.orders.close()
        return response

    message = json.loads(asyncio.run(cancel()).body)["message"]
    assert message == f"AssignedOrder with OrderId {unquote(order_id)} does not exist or has already been canceled"
