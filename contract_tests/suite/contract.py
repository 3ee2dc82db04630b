"""What `openapi.yaml` says: the operations, their parameters and limits, and the answers word for word.

The suite reads the document itself, so that it shares no mistake with a server that reads it too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_PACKAGE = Path(__file__).parent.parent
_INSTALLED = _PACKAGE / "openapi.yaml"
# A wheel carries the document inside the package. In a checkout it is beside the package.
PATH = _INSTALLED if _INSTALLED.exists() else _PACKAGE.parent / "openapi.yaml"

# The loader in C is ten times as fast, but not every platform has it.
_DOCUMENT: Any = yaml.load(PATH.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
_SCHEMAS = _DOCUMENT["components"]["schemas"]


class Answer(NamedTuple):
    """An answer that the contract gives. (What comes over HTTP is a `Response`.)"""

    status: int
    message: str

    def __str__(self) -> str:
        return f'{self.status} {{"message": "{self.message}"}}'


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation of the contract. Its parameters are in the contract's order."""

    name: str
    method: str
    path: str
    parameters: tuple[str, ...]
    # Name of an answer's schema -> the answer's status code.
    statuses: Mapping[str, int]

    @property
    def regular_statuses(self) -> list[int]:
        """The status codes of all answers but internal errors."""
        return sorted({status for status in self.statuses.values() if status < 500})


def _resolve(node: Any) -> Any:
    """Return `node`, or what its `$ref` points to."""
    while "$ref" in node:
        keys = node["$ref"].removeprefix("#/").split("/")
        node = _DOCUMENT
        for key in keys:
            node = node[key]
    return node


def _schema_names(response: Any) -> list[str]:
    """Return the names of the schemas that a response's body may have."""
    schema = _resolve(response)["content"]["application/json"]["schema"]
    return [reference["$ref"].rpartition("/")[2] for reference in schema.get("oneOf", [schema])]


def _message(schema: str) -> Any:
    """Return the schema of the message in a schema's objects."""
    return _SCHEMAS[schema]["properties"]["message"]


def _operation(name: str) -> Operation:
    for path, methods in _DOCUMENT["paths"].items():
        for method, definition in methods.items():
            if isinstance(definition, dict) and definition.get("operationId") == f"{name}_order":
                parameters = tuple(_resolve(parameter)["name"] for parameter in definition["parameters"])
                statuses = {
                    schema: int(status)
                    for status, response in definition["responses"].items()
                    for schema in _schema_names(response)
                }
                return Operation(name, method.upper(), path, parameters, statuses)
    raise LookupError(f"{PATH} has no operation {name}_order")


def _answer(operation: Operation, schema: str) -> Answer:
    return Answer(operation.statuses[schema], _message(schema)["const"])


ASSIGN, ACQUIRE, CANCEL = OPERATIONS = tuple(map(_operation, ("assign", "acquire", "cancel")))

CREATED = _answer(ASSIGN, "OrderCreated")
ALREADY_EXISTS = _answer(ASSIGN, "OrderAlreadyExists")
ACQUIRED = _answer(ACQUIRE, "OrderAcquired")
NO_ORDERS = _answer(ACQUIRE, "NoOrders")
CANCELED = _answer(CANCEL, "OrderCanceled")
MISSING = {
    ASSIGN: _answer(ASSIGN, "AssignParametersMissing"),
    ACQUIRE: _answer(ACQUIRE, "AcquireParametersMissing"),
    CANCEL: _answer(CANCEL, "CancelParametersMissing"),
}

# Answers that any request can get.
_COMMON = {
    schema: Answer(int(status), _message(schema)["const"])
    for status, response in _DOCUMENT["x-common-responses"].items()
    for schema in _schema_names(response)
}
NOT_FOUND = _COMMON["NotFound"]
METHOD_NOT_ALLOWED = _COMMON["MethodNotAllowed"]
UNKNOWN_ERROR = _COMMON["UnknownError"]


def _literals(schema: str) -> list[str]:
    """Return the text of a message's pattern, split at the parts that vary: `(...)` and `[\\s\\S]+`."""
    return re.split(r"\(.*?\)|\[\\s\\S\]\+", _message(schema)["pattern"].strip("^$"))


NOT_ACTIVE_START, NOT_ACTIVE_END = _literals("OrderNotActive")
INVALID_START, INVALID_MIDDLE, _ = _literals("ParameterInvalid")


def not_active(order_id: str) -> Answer:
    """Return the answer to a cancel of an order that is not active."""
    return Answer(CANCEL.statuses["OrderNotActive"], f"{NOT_ACTIVE_START}{order_id}{NOT_ACTIVE_END}")


def invalid_start(operation: Operation, parameter: str) -> Answer:
    """Return the answer to an invalid parameter, as far as the document gives it: what is wrong is left out (D9)."""
    return Answer(operation.statuses["ParameterInvalid"], f"{INVALID_START}{parameter}{INVALID_MIDDLE}")


# In code points (D7).
MAX_LENGTH: int = _SCHEMAS["Identifier"]["maxLength"]
STATUSES: tuple[str, ...] = tuple(_SCHEMAS["ExecutionStatus"]["enum"])

# The properties of the `order_profile` in an answer to acquire, in the contract's order: name -> schema.
PROFILE: dict[str, Any] = {}
for _part in _SCHEMAS["OrderAcquired"]["properties"]["order_profile"]["allOf"]:
    PROFILE |= {_name: _resolve(_schema) for _name, _schema in _resolve(_part)["properties"].items()}
