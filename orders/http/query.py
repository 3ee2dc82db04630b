"""Reads the parameters of an operation from a query string (D7 to D10)."""

from urllib.parse import unquote_to_bytes

from orders.contract import Operation, Parameter


class ParameterError(ValueError):
    """The parameters of a request break the contract. The client gets the message, with this status (D8, D9)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_arguments(operation: Operation, query: str) -> dict[str, str]:
    """Return the parameters of an operation from a raw query string, whose characters stand for bytes (Latin-1).

    Raises ParameterError if a parameter is missing (D8), or if none is missing and one is invalid (D9).
    """
    given = split_query(query)
    raw_values = [given.get(parameter.name, []) for parameter in operation.parameters]
    # Missing means absent, or empty each time (D8).
    if not all(any(values) for values in raw_values):
        missing = operation.parameters_missing
        raise ParameterError(missing.status, missing.message())
    arguments = {}
    for parameter, values in zip(operation.parameters, raw_values, strict=True):
        try:
            arguments[parameter.name] = _argument(parameter, values)
        except ValueError as error:
            invalid = operation.parameter_invalid
            raise ParameterError(invalid.status, invalid.message(parameter.name, str(error))) from None
    return arguments


def _argument(parameter: Parameter, values: list[str]) -> str:
    """Return the decoded value of a parameter that is not missing. Raises ValueError, with what is wrong (D9)."""
    if len(values) > 1:
        raise ValueError("given more than once")
    try:
        value = decode(values[0])
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if len(value) < parameter.min_length:
        raise ValueError(f"shorter than {parameter.min_length} characters")
    if len(value) > parameter.max_length:
        raise ValueError(f"longer than {parameter.max_length} characters")
    if not parameter.pattern.search(value):
        raise ValueError(parameter.pattern_error)
    return value


def split_query(query: str) -> dict[str, list[str]]:
    """Return the fields of a raw query string: decoded name -> raw values, in their order."""
    fields: dict[str, list[str]] = {}
    for field in query.split("&"):
        name, _, value = field.partition("=")
        try:
            fields.setdefault(decode(name), []).append(value)
        except UnicodeDecodeError:
            continue  # No parameter has such a name. Unknown parameters are ignored (D10).
    return fields


def decode(raw: str) -> str:
    """Decode a name or value of a query string: `+` is a space, `%` escapes are bytes, and bytes are UTF-8 (D7).

    Raises UnicodeDecodeError if the bytes are not UTF-8.
    """
    if raw.isascii() and "%" not in raw and "+" not in raw:
        return raw
    return unquote_to_bytes(raw.replace("+", " ").encode("latin-1")).decode("utf-8")
