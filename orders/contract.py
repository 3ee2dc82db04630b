"""`openapi.yaml`, read once: the operations, their parameters, and their answers.

The document drives the server: its paths, methods, parameters, limits, status codes and messages are those of the
document. If it cannot follow the document, it refuses to start. `orders.conformance` compares the code with the rest
of the document.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from orders.openapi import Document, DocumentError, facts, load_document, require, resolve, well_formed

# The server's own paths begin with this, for example those of the test controls.
RESERVED_PREFIX = "/_"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
# Each answer has this header.
HEADERS = {"Cache-Control": {"required": True, "schema": {"type": "string", "const": "no-store"}}}
# The parts of a message's pattern that stand for a value.
VALUE = re.compile(r"\([\w|]+\)|\[\\s\\S\]\+")
SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: required text."""

    name: str
    min_length: int
    max_length: int
    pattern: re.Pattern[str]
    pattern_error: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the contract: a status, and an object with a message and perhaps more properties.

    A message may contain values. `texts` are the parts of the message around them, so there is one more text than there
    are values. `properties` has the schema of each property of the object.
    """

    status: int
    texts: tuple[str, ...]
    properties: Mapping[str, Any]

    def message(self, *values: str) -> str:
        """Return the message with these values between its texts."""
        first, *others = self.texts
        return first + "".join(value + text for value, text in zip(values, others, strict=True))


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the contract.

    `parameters` are in the contract's order. `answers` has each answer by the name of its schema. `examples` has the
    first example of each status.
    """

    operation_id: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    answers: Mapping[str, Answer]
    examples: Mapping[int, Any]

    @property
    def parameters_missing(self) -> Answer:
        """The answer to a request without one of the parameters (D8)."""
        return next(answer for name, answer in self.answers.items() if name.endswith("ParametersMissing"))

    @property
    def parameter_invalid(self) -> Answer:
        """The answer to a request with an invalid parameter (D9)."""
        return self.answers["ParameterInvalid"]


@dataclass(frozen=True, slots=True)
class Contract:
    """The operations, the answers that any request can get, and the document itself."""

    operations: tuple[Operation, ...]
    common_answers: Mapping[str, Answer]
    document: Document


def contract_path() -> Path:
    """Return the path of `openapi.yaml`: in the installed package, or beside the package in a checkout."""
    package = Path(__file__).parent
    installed = package / "openapi.yaml"
    return installed if installed.exists() else package.parent / "openapi.yaml"


def load_contract(path: Path) -> Contract:
    """Read a contract from a file. Raises DocumentError, with the path and what the server cannot follow."""
    document = load_document(path)
    try:
        return read_contract(document)
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from error


@well_formed()
def read_contract(document: Document) -> Contract:
    """Read a contract from a document. Raises DocumentError, with what the server cannot follow."""
    root = document.data
    require("the version of OpenAPI", root["openapi"].rpartition(".")[0], "3.1")
    require("servers", facts(root, root["servers"]), [{"url": "/"}])
    require("security", root["security"], [])
    operations = tuple(
        _operation(root, path, method, operation)
        for path, methods in root["paths"].items()
        for method, operation in methods.items()
    )
    return Contract(operations, dict(_answers(root, root["x-common-responses"])), document)


def _operation(root: Any, path: str, method: str, operation: Any) -> Operation:
    if not re.fullmatch("/[^{]*", path) or path.startswith(RESERVED_PREFIX) or method not in METHODS:
        raise DocumentError(f"{method} {path}: the server needs a method and a path without {{}} and {RESERVED_PREFIX}")
    require(f"{method} {path}", {*facts(root, operation)}, {"operationId", "parameters", "responses"})
    responses = {status: resolve(root, response) for status, response in operation["responses"].items()}
    answers = list(_answers(root, responses))
    # The server finds an answer, and so its status, by the name of the schema.
    require(f"{method} {path}: the number of kinds of answers", len(answers), len(dict(answers)))
    return Operation(
        operation["operationId"],
        method.upper(),
        path,
        tuple(_parameter(facts(root, parameter)) for parameter in operation["parameters"]),
        dict(answers),
        {int(status): _first_example(root, response) for status, response in responses.items()},
    )


def _parameter(parameter: Any) -> Parameter:
    name, schema = parameter["name"], parameter.pop("schema")
    require(f"parameter {name}", parameter, {"name": name, "in": "query", "required": True})
    require(f"parameter {name}", {*schema}, {"type", "minLength", "maxLength", "pattern", "x-pattern-error"})
    require(f"parameter {name}: type", schema["type"], "string")
    # An empty parameter is a missing one (D8).
    if not 1 <= schema["minLength"] <= schema["maxLength"]:
        raise DocumentError(f"parameter {name}: minLength must be from 1 to maxLength, not {schema['minLength']}")
    if not schema["x-pattern-error"]:
        raise DocumentError(f"parameter {name}: x-pattern-error says nothing")
    # In ECMA-262, a final `$` is the very end. In Python, a newline may follow.
    pattern = re.compile(re.sub(r"(?<!\\)\$$", r"\\Z", schema["pattern"]))
    return Parameter(name, schema["minLength"], schema["maxLength"], pattern, str(schema["x-pattern-error"]))


def _answers(root: Any, responses: Mapping[str, Any]) -> Iterator[tuple[str, Answer]]:
    """Yield each kind of answer, with the name of its schema."""
    for key, reference in responses.items():
        response, status = resolve(root, reference), HTTPStatus(int(key)).value
        if status < 200 or status in (204, 205, 304):
            raise DocumentError(f"response {status}: it has no body (RFC 9110 §6.4.1)")
        require(f"response {status}: headers", facts(root, response["headers"]), HEADERS)
        require(f"response {status}: content", [*response["content"]], ["application/json"])
        schema = response["content"]["application/json"]["schema"]
        for branch in schema["oneOf"] if {*schema} == {"oneOf"} else [schema]:
            name = branch["$ref"].rpartition("/")[2]
            yield name, _answer(name, status, facts(root, branch))


def _answer(name: str, status: int, schema: Any) -> Answer:
    properties = schema.pop("properties")
    require(name, schema, {"type": "object", "required": [*properties], "additionalProperties": False})
    message = properties["message"]
    keyword = "const" if "const" in message else "pattern"
    require(f"{name}: its message", message, {"type": "string", keyword: str(message[keyword])})
    texts = [message[keyword]]
    if keyword == "pattern":
        texts = VALUE.split(message["pattern"].removeprefix("^").removesuffix("$"))
        require(f"{name}: special characters in its message", SPECIAL.findall("".join(texts)), [])
    return Answer(status, tuple(texts), properties)


def _first_example(root: Any, response: Any) -> Any:
    first, *_ = response["content"]["application/json"]["examples"].values()
    return resolve(root, first)["value"]
