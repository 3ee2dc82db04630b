"""Faults of parameters: missing ones, repeated ones, and where they are read from."""

import json
from collections.abc import Sequence
from contextlib import suppress

from tests.faulty.catalogue import Faults
from tests.faulty.implementation import Api, Connection, InvalidParameter, Operation, Parameters, Request, Response

faults = Faults()


@faults.breaks("PARAM-1")
class EmptyIsAccepted(Parameters):
    """An empty parameter is accepted."""

    def is_missing(self, values: list[bytes]) -> bool:
        return not values


@faults.breaks("PARAM-1")
class EmptyIsInvalid(Parameters):
    """An empty parameter is invalid instead of missing."""

    def is_missing(self, values: list[bytes]) -> bool:
        return not values

    def problem(self, text: str) -> str | None:
        return super().problem(text) if text else "empty"


@faults.breaks("PARAM-2")
class InvalidBeforeMissing(Parameters):
    """An invalid parameter is reported although another one is missing."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        given = self.given(request)
        for name in names:
            if not self.is_missing(given.get(name, [])):
                self.value(name, given[name])
        return super().read(request, names)


@faults.breaks("PARAM-7")
class FirstOfSeveral(Parameters):
    """If a parameter is given more than once, the first value counts."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, values[:1])


@faults.breaks("PARAM-7")
class LastOfSeveral(Parameters):
    """If a parameter is given more than once, the last value counts."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, values[-1:])


@faults.breaks("PARAM-7")
class SeveralAreJoined(Parameters):
    """If a parameter is given more than once, its values are joined with commas."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, [b",".join(values)])


@faults.breaks("PARAM-7")
class SameTwiceIsAccepted(Parameters):
    """A parameter may be given more than once if its values are the same."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, list(dict.fromkeys(values)))


@faults.breaks("PARAM-8")
class LastInvalidIsNamed(Parameters):
    """If several parameters are invalid, the last one is reported."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        return super().read(request, names[::-1])


@faults.breaks("PARAM-8")
class InvalidInAlphabeticalOrder(Parameters):
    """If several parameters are invalid, the first in alphabetical order is reported."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        return super().read(request, sorted(names))


@faults.breaks("PARAM-8")
class RepeatedIsNamedFirst(Parameters):
    """Parameters that are given more than once are reported before other invalid ones."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        given = self.given(request)
        return super().read(request, sorted(names, key=lambda name: len(given.get(name, [])) < 2))


@faults.breaks("PARAM-11")
class FormFillsIn(Parameters):
    """Parameters that the query string lacks are read from a form in the body."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**self.split(request.body), **super().given(request)}


@faults.breaks("PARAM-11")
class FormOverrides(Parameters):
    """A form in the body takes precedence over the query string."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**super().given(request), **self.split(request.body)}


@faults.breaks("PARAM-11")
class FormIsAdded(Parameters):
    """The parameters of a form in the body are added to those of the query string."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        query, form = super().given(request), self.split(request.body)
        return {name: query.get(name, []) + form.get(name, []) for name in query | form}


class JsonReading(Parameters):
    """Adds `json`, which reads parameters from a body of JSON."""

    def json(self, request: Request) -> dict[str, list[bytes]]:
        """Return the parameters in the body. A body that is not a JSON object has none."""
        with suppress(ValueError):
            body = json.loads(request.body)
            if isinstance(body, dict):
                return {name: [str(value).encode()] for name, value in body.items()}
        return {}


@faults.breaks("PARAM-11")
class JsonFillsIn(JsonReading):
    """Parameters that the query string lacks are read from JSON in the body."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**self.json(request), **super().given(request)}


@faults.breaks("PARAM-11")
class JsonOverrides(JsonReading):
    """JSON in the body takes precedence over the query string."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**super().given(request), **self.json(request)}


@faults.breaks("PARAM-11")
class BrokenJsonIs400(Api):
    """A body whose content type is JSON is refused if it is not valid JSON."""

    def run(self, operation: Operation, request: Request) -> Response:
        if "json" in request.headers.get("content-type", ""):
            try:
                json.loads(request.body)
            except ValueError:
                return self.reply((400, "Problems parsing JSON"))
        return super().run(operation, request)


@faults.breaks("PARAM-11")
class ContentTypeIs415(Api):
    """A body is refused if its content type is not that of a form."""

    def run(self, operation: Operation, request: Request) -> Response:
        form = "application/x-www-form-urlencoded"
        if request.body and request.headers.get("content-type", form) != form:
            return self.reply((415, "Unsupported media type"))
        return super().run(operation, request)


@faults.breaks("PARAM-11")
class BodyOfGetIs400(Api):
    """A GET with a body is refused."""

    def run(self, operation: Operation, request: Request) -> Response:
        return self.bad_request() if request.method == "GET" and request.body else super().run(operation, request)


@faults.breaks("PARAM-11")
class BodyIsNotRead(Connection):
    """A body is not read, so that it is taken for the next request on the connection."""

    def read_body(self, request: Request) -> None:
        pass


@faults.breaks("PARAM-11")
class ChunksAreNotRead(Connection):
    """A body in chunks is not read, so that it is taken for the next request on the connection."""

    def read_chunks(self) -> bytes:
        return b""


@faults.breaks("PARAM-12")
class UnknownIsRefused(Parameters):
    """A parameter that the operation does not have is refused."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        values = super().read(request, names)
        for name in self.given(request).keys() - {*names, ""}:
            raise InvalidParameter(name, "unknown parameter")
        return values


@faults.breaks("PARAM-12")
class PairsMustBeComplete(Parameters):
    """A query string is refused if one of its parts has no `=`."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        values = super().read(request, names)
        if not all(b"=" in pair for pair in request.query.split(b"&")):
            raise InvalidParameter(names[0], "broken query string")
        return values


@faults.breaks("PARAM-12")
class NamesInAnyCase(Parameters):
    """The names of parameters are case-insensitive: `ORDER_ID` is `order_id`."""

    def name(self, name: bytes) -> str:
        return super().name(name).lower()


@faults.breaks("PARAM-12")
class NamesWithBrackets(Parameters):
    """Brackets after the name of a parameter are ignored: `order_id[]` is `order_id`."""

    def name(self, name: bytes) -> str:
        return super().name(name).removesuffix("[]")
