"""Checks values against the schemas of `controls.yaml`. Its messages say in words what a schema allows."""

import reprlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from orders.openapi import load_document

Schema = Mapping[str, Any]

DOCUMENT = load_document(Path(__file__).with_name("controls.yaml"))
SCHEMAS: Mapping[str, Schema] = DOCUMENT.data["components"]["schemas"]
# operationId -> name of a query parameter -> its schema.
PARAMETERS: Mapping[str, Mapping[str, Schema]] = {
    control["operationId"]: {parameter["name"]: parameter["schema"] for parameter in control.get("parameters", [])}
    for methods in DOCUMENT.data["paths"].values()
    for control in methods.values()
}
FORMATS = FormatChecker(formats=())


class ControlError(ValueError):
    """A value for a test control is wrong. The message says what is allowed."""


def check_parameters(operation_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query parameters of a control: `values`, and defaults for the others. Raises ControlError."""
    schema = {"additionalProperties": False, "properties": PARAMETERS[operation_id]}
    return check_values(values, schema, operation_id, "parameter")


def check_values(values: Any, schema: Schema, owner: str, noun: str = "field") -> dict[str, Any]:
    """Return the properties of an object, with defaults for those that it leaves out. Raises ControlError.

    The message of the error calls the object `owner`, and a property `noun`.
    """
    root = {**schema, "components": DOCUMENT.data["components"]}  # Each $ref points into these.
    error = next(Draft202012Validator(root, format_checker=FORMATS).iter_errors(values), None)
    if error is not None:
        raise ControlError(_message(error, owner, noun))
    # In JSON Schema, 2.0 is an integer too.
    whole = {name: int(value) for name, value in values.items() if isinstance(value, float) and value.is_integer()}
    return {**defaults_of(schema), **values, **whole}


def defaults_of(schema: Schema) -> dict[str, Any]:
    """Return the properties of an object that have a default."""
    return {name: part["default"] for name, part in schema["properties"].items() if "default" in part}


def _message(error: ValidationError, owner: str, noun: str) -> str:
    # For example `count`, or `orders[1].order_id`.
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.path)[1:] or owner
    instance: Any = error.instance
    match error.validator, error.schema:
        case "additionalProperties", {"properties": known}:
            unknown = next(key for key in instance if key not in known)
            return f"unknown {noun} {reprlib.repr(unknown)}; {name} has {', '.join(known) or 'none'}"
        case "required", {"required": required}:
            missing = next(key for key in required if key not in instance)
            return f"{missing} is missing; {name} needs {', '.join(required)}"
        case "pattern", {"x-pattern-error": problem}:
            return f"{name}: {problem}"
        case _, {"const": value}:
            allowed = value
        case _, {"enum": values}:
            allowed = f"one of {', '.join(map(str, values))}"
        case _, {"type": "integer", "minimum": low, "maximum": high}:
            allowed = f"a whole number from {low} to {high}"
        case _, {"type": "string", "minLength": low, "maxLength": high}:
            allowed = f"text of {low} to {high} characters"
        case _, {"type": "array", "minItems": low, "maxItems": high}:
            allowed = f"a list of {low} to {high}"
        case _, {"format": "date-time"}:
            allowed = "a time with its offset, for example 2026-01-31T12:00:00Z"
        case _, {"type": type_name}:
            allowed = "a JSON object" if type_name == "object" else f"a {type_name}"
    return f"{name} must be {allowed}, not {reprlib.repr(instance)}"


@FORMATS.checks("date-time", raises=(ValueError, OverflowError))
def _is_time(value: Any) -> bool:
    if value is None:
        return True  # A schema that does not allow null says so in its type.
    moment = datetime.fromisoformat(value)
    moment.astimezone(UTC)  # Raises OverflowError if the year in UTC is not from 1 to 9999.
    return moment.tzinfo is not None
