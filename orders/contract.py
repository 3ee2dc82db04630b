"""`openapi.yaml`, read once: the operations, their parameters, and what is wrong with a value.

Only what the server can honour is accepted. A parameter schema with a keyword that nothing enforces would be a
promise that the server breaks, so it is refused at start-up.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import yaml

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# What the server has of its own beside the contract, the test controls say, is under it.
RESERVED_PREFIX = "/_"
PATH_ANNOTATIONS = {"summary", "description"}
PARAMETER_KEYWORDS = {"name", "in", "required", "schema", "description", "example", "examples"}
SCHEMA_KEYWORDS = {"type", "minLength", "maxLength", "pattern", "x-pattern-error"}
SCHEMA_ANNOTATIONS = {"title", "description", "examples"}


class ContractError(Exception):
    """The contract cannot be served; the message says what is wrong with it, in one line."""


class ParameterError(ValueError):
    """A request's parameters break the contract; the message is the one that the client gets (D8, D9)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: required text."""

    name: str
    min_length: int
    max_length: int
    pattern: re.Pattern[str]
    pattern_error: str

    def problem(self, value: str) -> str | None:
        """Return what is wrong with `value`, which is not empty, or None."""
        if len(value) < self.min_length:
            return f"shorter than {self.min_length} characters"
        if len(value) > self.max_length:
            return f"longer than {self.max_length} characters"
        if not self.pattern.search(value):
            return self.pattern_error
        return None


@dataclass(frozen=True)
class Operation:
    """An operation of the contract: its id, where it is found, its parameters in the contract's order, its answers.

    `examples` has every status code that the contract documents, each with the first of its examples.
    """

    operation_id: str
    method: str
    path: str
    parameters: tuple[Parameter, ...]
    examples: Mapping[int, Any]

    def arguments(self, query: str) -> dict[str, str]:
        """Read the parameters from a raw query string, whose characters stand for bytes (Latin-1).

        Raises ParameterError if one is missing, which comes first (D8), or invalid (D9).
        """
        given = split_query(query)
        raw_values = [given.get(parameter.name, []) for parameter in self.parameters]
        if not all(map(any, raw_values)):
            raise ParameterError(self._missing)
        return {
            parameter.name: self._argument(parameter, values)
            for parameter, values in zip(self.parameters, raw_values, strict=True)
        }

    @cached_property
    def error_codes(self) -> list[int]:
        """The status codes of its errors."""
        return [code for code in self.examples if code >= 400]

    @cached_property
    def _missing(self) -> str:
        *names, last = [parameter.name for parameter in self.parameters]
        listed = f"{', '.join(names)} and {last}" if names else last
        return f"Missing parameters, please provide {listed}"

    @staticmethod
    def _argument(parameter: Parameter, values: list[str]) -> str:
        problem: str | None
        if len(values) > 1:
            problem = "given more than once"
        else:
            try:
                value = decode(values[0])
            except UnicodeDecodeError:
                problem = "not UTF-8"
            else:
                problem = parameter.problem(value)
                if problem is None:
                    return value
        raise ParameterError(f"Invalid parameter {parameter.name}: {problem}")


@dataclass(frozen=True, slots=True)
class Document:
    """An OpenAPI document: as it was written, as JSON, and as data."""

    as_yaml: bytes
    as_json: bytes
    data: Any


@dataclass(frozen=True, slots=True)
class Contract:
    """The operations of `openapi.yaml`, and the document itself."""

    operations: tuple[Operation, ...]
    document: Document


def split_query(query: str) -> dict[str, list[str]]:
    """Split a raw query string into its fields: decoded names, each with its raw values in order."""
    fields: dict[str, list[str]] = {}
    for field in query.split("&"):
        name, _, value = field.partition("=")
        try:
            fields.setdefault(decode(name), []).append(value)
        except UnicodeDecodeError:
            continue  # No parameter has such a name, and unknown ones are ignored (D10).
    return fields


def decode(raw: str) -> str:
    """Decode a name or value of a query string: `+` is a space, `%` escapes are bytes, bytes are UTF-8 (D7).

    Raises UnicodeDecodeError if they are not.
    """
    if raw.isascii() and "%" not in raw and "+" not in raw:
        return raw
    return unquote_to_bytes(raw.replace("+", " ").encode("latin-1")).decode("utf-8")


def contract_path() -> Path:
    """Return where `openapi.yaml` is: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "openapi.yaml"
    return installed if installed.exists() else package.parent / "openapi.yaml"


def load_contract(path: Path) -> Contract:
    """Read and check a contract. Raises ContractError, naming the file and what is wrong in it."""
    document = load_document(path)
    try:
        return Contract(_operations(document.data), document)
    except (ContractError, TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{path}: {error}") from error


def load_document(path: Path) -> Document:
    """Read an OpenAPI document. Raises ContractError, naming the file and what is wrong in it."""
    try:
        source = path.read_bytes()
        # The loader in C is ten times as fast, but not every platform has it.
        data = yaml.load(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return Document(source, json.dumps(data).encode(), data)
    except OSError as error:
        raise ContractError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{path}: {error}") from error


def _operations(document: Any) -> tuple[Operation, ...]:
    root = _mapping(document, "the document")
    if not str(root.get("openapi", "")).startswith("3.1."):
        raise ContractError(f"openapi is {root.get('openapi')!r}, not 3.1.x")
    operations: list[Operation] = []
    for path, item in _mapping(root.get("paths"), "paths").items():
        if not isinstance(path, str) or not path.startswith("/") or "{" in path:
            raise ContractError(f"path {path!r} is not a fixed path")
        if path.startswith(RESERVED_PREFIX):
            raise ContractError(f"path {path!r} begins with {RESERVED_PREFIX}, which is the server's own")
        for method, definition in _mapping(item, path).items():
            if method in METHODS:
                operations.append(_operation(root, path, method, _mapping(definition, f"{method} {path}")))
            elif method not in PATH_ANNOTATIONS and not str(method).startswith("x-"):
                raise ContractError(f"path {path}: {method!r} is not supported")
    ids = [operation.operation_id for operation in operations]
    for operation_id in ids:
        if ids.count(operation_id) > 1:
            raise ContractError(f"operationId {operation_id} is used more than once")
    return tuple(operations)


def _operation(root: Mapping[str, Any], path: str, method: str, definition: Mapping[str, Any]) -> Operation:
    operation_id = definition.get("operationId")
    if not isinstance(operation_id, str):
        raise ContractError(f"{method} {path} has no operationId")
    parameters = definition.get("parameters", [])
    if not isinstance(parameters, list) or not parameters:
        raise ContractError(f"{operation_id} has no list of parameters")
    return Operation(
        operation_id,
        method.upper(),
        path,
        tuple(_parameter(root, operation_id, parameter) for parameter in parameters),
        _examples(root, operation_id, definition.get("responses")),
    )


def _examples(root: Mapping[str, Any], operation_id: str, responses: Any) -> dict[int, Any]:
    examples: dict[int, Any] = {}
    for code, definition in _mapping(responses, f"{operation_id}: responses").items():
        where = f"{operation_id}: response {code}"
        if not re.fullmatch("[1-5][0-9][0-9]", str(code)):
            raise ContractError(f"{where}: {code!r} is not a status code")
        definition = _resolve(root, definition, where)
        content = _mapping(definition.get("content"), f"{where}: content").get("application/json")
        named = _mapping(_mapping(content, f"{where}: application/json").get("examples"), f"{where}: examples")
        first = _resolve(root, next(iter(named.values()), None), f"{where}: its first example")
        if "value" not in first:
            raise ContractError(f"{where}: its first example has no value")
        examples[int(code)] = first["value"]
    return examples


def _parameter(root: Mapping[str, Any], operation_id: str, definition: Any) -> Parameter:
    definition = _resolve(root, definition, f"{operation_id}: a parameter")
    name = definition.get("name")
    where = f"{operation_id}: parameter {name}"
    if not isinstance(name, str) or not name:
        raise ContractError(f"{operation_id}: a parameter has no name")
    _refuse_unknown(where, definition, PARAMETER_KEYWORDS)
    if definition.get("in") != "query":
        raise ContractError(f"{where}: `in` must be query")
    if definition.get("required") is not True:
        raise ContractError(f"{where}: `required` must be true")
    schema = _resolve(root, definition.get("schema"), f"{where}: its schema")
    _refuse_unknown(f"{where}: its schema", schema, SCHEMA_KEYWORDS | SCHEMA_ANNOTATIONS)

    def value_of(keyword: str, kind: type, fits: Callable[[Any], bool], wanted: str) -> Any:
        value = schema.get(keyword)
        if not isinstance(value, kind) or not fits(value):
            raise ContractError(f"{where}: {keyword} must be {wanted}, not {value!r}")
        return value

    value_of("type", str, lambda value: value == "string", "string")
    # An empty parameter is a missing one (D8), so a contract that allows it would not be kept.
    min_length = value_of("minLength", int, lambda value: value >= 1, "at least 1")
    max_length = value_of("maxLength", int, lambda value: value >= min_length, f"at least {min_length}")
    pattern = value_of("pattern", str, bool, "a regular expression")
    pattern_error = value_of("x-pattern-error", str, bool, "what to tell a client whose value does not match")
    return Parameter(name, min_length, max_length, _regex(where, pattern), pattern_error)


def _regex(where: str, pattern: str) -> re.Pattern[str]:
    """Compile an ECMA-262 pattern, in which a final `$` is the very end, newline or not."""
    try:
        return re.compile(re.sub(r"(?<!\\)\$$", r"\\Z", pattern))
    except re.error as error:
        raise ContractError(f"{where}: pattern {pattern!r} is not a regular expression: {error}") from error


def _resolve(root: Mapping[str, Any], definition: Any, where: str) -> Mapping[str, Any]:
    """Return `definition`, or what its `$ref` into this document points to."""
    seen: list[str] = []
    while "$ref" in (definition := _mapping(definition, where)):
        reference = definition["$ref"]
        if not isinstance(reference, str) or not reference.startswith("#/") or reference in seen:
            raise ContractError(f"{where}: $ref {reference!r} is not a reference into this document")
        seen.append(reference)
        definition = root
        for key in reference.removeprefix("#/").split("/"):
            definition = definition.get(key) if isinstance(definition, Mapping) else None
        if definition is None:
            raise ContractError(f"{where}: $ref {reference!r} points to nothing")
    return definition


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ContractError(f"{where} is not a mapping")
    return value


def _refuse_unknown(where: str, definition: Mapping[Any, Any], known: set[str]) -> None:
    unknown = sorted(str(key) for key in definition if key not in known)
    if unknown:
        raise ContractError(f"{where}: {', '.join(unknown)} is not supported")
