"""Faults of values: valid ones that are refused, and invalid ones that are accepted."""

import re
from dataclasses import replace
from urllib.parse import quote

from tests.faulty.catalogue import Faults
from tests.faulty.implementation import Api, Parameters, Response

faults = Faults()


@faults.breaks("PARAM-3")
class LimitOf254(Parameters):
    """An identifier of 255 characters counts as too long."""

    LIMIT = 254


@faults.breaks("PARAM-3")
class LimitOf100(Parameters):
    """An identifier of more than 100 characters counts as too long."""

    LIMIT = 100


@faults.breaks("PARAM-3")
class LimitInBytes(Parameters):
    """The length of an identifier is counted in bytes."""

    def length(self, text: str) -> int:
        return len(text.encode())


@faults.breaks("PARAM-3")
class LimitInUtf16(Parameters):
    """The length of an identifier is counted in UTF-16 code units, as in JavaScript and Java."""

    def length(self, text: str) -> int:
        return len(text.encode("utf-16-le")) // 2


@faults.breaks("PARAM-3")
class LimitOnEscaped(Parameters):
    """The length of an identifier is counted in its percent-encoded form."""

    def length(self, text: str) -> int:
        return len(quote(text))


@faults.breaks("PARAM-3")
class AsciiOnly(Parameters):
    """Only ASCII is accepted."""

    FORBIDDEN = re.compile(r"[^\x20-\x7e]")


@faults.breaks("PARAM-3")
class WordsOnly(Parameters):
    """Only letters, digits, `_` and `-` are accepted."""

    FORBIDDEN = re.compile(r"[^\w-]", re.ASCII)


@faults.breaks("PARAM-3")
class AstralIsInvalid(Parameters):
    """Characters above U+FFFF are refused, as by a database with three-byte UTF-8."""

    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\U00010000-\U0010ffff]")


@faults.breaks("PARAM-3")
class C1IsInvalid(Parameters):
    """The characters U+0080 to U+009F are refused as control characters."""

    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@faults.breaks("PARAM-3")
class UnprintableIsInvalid(Parameters):
    """Characters that Python counts as unprintable are refused, for example U+2028 and U+FEFF."""

    def problem(self, text: str) -> str | None:
        return super().problem(text) or (None if text.isprintable() else "control characters are not allowed")


@faults.breaks("PARAM-3")
class ReplacementCharacterIsInvalid(Parameters):
    """The replacement character, U+FFFD, is refused as a sign of broken UTF-8."""

    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ufffd]")


@faults.breaks("PARAM-3")
class BlankIsMissing(Parameters):
    """A parameter that consists of spaces counts as missing."""

    def is_missing(self, values: list[bytes]) -> bool:
        return not any(value.strip() for value in values)


@faults.breaks("PARAM-3")
class ZeroIsMissing(Parameters):
    """The value `0` counts as missing, because it is false."""

    def is_missing(self, values: list[bytes]) -> bool:
        return super().is_missing(values) or values == [b"0"]


@faults.breaks("PARAM-3")
class NullIsMissing(Parameters):
    """The values `null`, `None` and `undefined` count as missing."""

    def is_missing(self, values: list[bytes]) -> bool:
        return super().is_missing(values) or values[0] in (b"null", b"None", b"undefined")


@faults.breaks("PARAM-4")
class LimitOf256(Parameters):
    """An identifier of 256 characters is accepted."""

    LIMIT = 256


@faults.breaks("PARAM-4")
class NoLimit(Parameters):
    """Identifiers of any length are accepted."""

    LIMIT = 1 << 30


@faults.breaks("PARAM-4")
class ZoneHasNoLimit(Parameters):
    """Zones of any length are accepted."""

    def value(self, name: str, values: list[bytes]) -> str:
        return self.text(values[0]) if name == "zone_id" and len(values[0]) > 255 else super().value(name, values)


@faults.breaks("PARAM-4")
class TooLongIsCut(Parameters):
    """Identifiers that are too long are cut to 255 characters."""

    def text(self, value: bytes) -> str:
        return super().text(value)[:255]


@faults.breaks("PARAM-4")
class TooLongIs414(Api):
    """An identifier that is too long is answered with 414."""

    def invalid(self, name: str, problem: str) -> Response:
        response = super().invalid(name, problem)
        return replace(response, status=414) if problem.startswith("longer") else response


@faults.breaks("PARAM-4")
class InvalidIs422(Api):
    """An invalid parameter is answered with 422."""

    INVALID = 422, Api.INVALID[1]


@faults.breaks("PARAM-4")
class InvalidMisspelled(Api):
    """The message for an invalid parameter begins with `Invalid value of`."""

    INVALID = 400, "Invalid value of {}: {}"


@faults.breaks("PARAM-5")
class ControlsAreAccepted(Parameters):
    """Control characters are accepted."""

    FORBIDDEN = re.compile("(?!)")


@faults.breaks("PARAM-5")
class NulIsAccepted(Parameters):
    """U+0000 is accepted."""

    FORBIDDEN = re.compile(r"[\x01-\x1f\x7f]")


@faults.breaks("PARAM-5")
class DelIsAccepted(Parameters):
    """U+007F is accepted."""

    FORBIDDEN = re.compile(r"[\x00-\x1f]")


@faults.breaks("PARAM-5")
class WhiteSpaceIsAccepted(Parameters):
    """Tabs and newlines are accepted."""

    FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@faults.breaks("PARAM-5")
class LastNewlineIsAccepted(Parameters):
    """A newline at the end is accepted, as by a pattern that ends in `$`."""

    def problem(self, text: str) -> str | None:
        return super().problem(text.removesuffix("\n"))


@faults.breaks("PARAM-5")
class ControlsAreDropped(Parameters):
    """Control characters are dropped silently."""

    def text(self, value: bytes) -> str:
        return self.FORBIDDEN.sub("", super().text(value))


@faults.breaks("PARAM-6")
class BrokenUtf8IsReplaced(Parameters):
    """Bytes that are not UTF-8 are replaced by U+FFFD."""

    def text(self, value: bytes) -> str:
        return value.decode(errors="replace")


@faults.breaks("PARAM-6")
class BrokenUtf8IsDropped(Parameters):
    """Bytes that are not UTF-8 are dropped."""

    def text(self, value: bytes) -> str:
        return value.decode(errors="ignore")


@faults.breaks("PARAM-6")
class BrokenUtf8IsLatin1(Parameters):
    """Values that are not UTF-8 are read as Latin-1."""

    def text(self, value: bytes) -> str:
        try:
            return super().text(value)
        except UnicodeDecodeError:
            return value.decode("latin-1")


@faults.breaks("PARAM-6")
class SurrogatesAreAccepted(Parameters):
    """UTF-8 that encodes surrogates is accepted."""

    def text(self, value: bytes) -> str:
        return value.decode(errors="surrogatepass")


@faults.breaks("PARAM-6")
class OverlongIsAccepted(Parameters):
    """Overlong UTF-8 is accepted: ASCII characters in two bytes."""

    def text(self, value: bytes) -> str:
        overlong = re.compile(rb"[\xc0\xc1][\x80-\xbf]")
        return super().text(overlong.sub(lambda match: bytes([(match[0][0] & 1) << 6 | match[0][1] & 63]), value))
