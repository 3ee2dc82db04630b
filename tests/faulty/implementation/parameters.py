"""The parameters of a request: read from the query string, and checked (D7 to D10)."""

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from tests.faulty.implementation.messages import Request


class MissingParameters(Exception):
    """Parameters are absent or empty (D8)."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.names = names


class InvalidParameter(Exception):
    """A parameter is invalid (D9)."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem


class Parameters:
    """Reads the parameters of an operation from a request."""

    LIMIT = 255
    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        """Return the value of each parameter.

        Raises MissingParameters if any is missing, otherwise InvalidParameter for the first that is invalid.
        """
        given = self.given(request)
        if missing := [name for name in names if self.is_missing(given.get(name, []))]:
            raise MissingParameters(missing)
        return {name: self.value(name, given[name]) for name in names}

    def given(self, request: Request) -> dict[str, list[bytes]]:
        """Return all names that a request gives, with their values. Only the query string counts (D10)."""
        return self.split(request.query)

    def split(self, query: bytes) -> dict[str, list[bytes]]:
        """Split a query string into names and their values."""
        values: dict[str, list[bytes]] = {}
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            values.setdefault(self.name(self.unescape(name)), []).append(self.unescape(value))
        return values

    def name(self, name: bytes) -> str:
        """Decode a name. Latin-1 never fails, and the names of all parameters are ASCII."""
        return name.decode("latin-1")

    def unescape(self, escaped: bytes) -> bytes:
        """Decode `+` and percent-escapes. A `%` that begins no escape stays as it is."""
        return unquote_to_bytes(escaped.replace(b"+", b" "))

    def is_missing(self, values: list[bytes]) -> bool:
        """Return whether a parameter is absent or empty (D8)."""
        return not any(values)

    def value(self, name: str, values: list[bytes]) -> str:
        """Return the value of a parameter. Raises InvalidParameter (D9)."""
        if len(values) > 1:
            raise InvalidParameter(name, "given more than once")
        try:
            text = self.text(values[0])
        except UnicodeDecodeError:
            raise InvalidParameter(name, "not UTF-8") from None
        if problem := self.problem(text):
            raise InvalidParameter(name, problem)
        return text

    def text(self, value: bytes) -> str:
        """Decode a value. Nothing is trimmed, folded or normalised (D7)."""
        return value.decode("utf-8")

    def problem(self, text: str) -> str | None:
        """Return what is wrong with an identifier, or None."""
        if self.length(text) > self.LIMIT:
            return f"longer than {self.LIMIT} characters"
        if self.FORBIDDEN.search(text):
            return "control characters are not allowed"
        return None

    def length(self, text: str) -> int:
        """Return the length of an identifier, in code points."""
        return len(text)
