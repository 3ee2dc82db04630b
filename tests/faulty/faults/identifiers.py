"""Faults of identifiers: changed, or compared inexactly."""

import html
import re
import unicodedata
from urllib.parse import unquote_to_bytes

from tests.faulty.catalogue import Faults
from tests.faulty.implementation import Order, Parameters, Store

faults = Faults()


@faults.breaks("PARAM-9", "PARAM-5")
class Trimmed(Parameters):
    """White space around identifiers is removed."""

    def text(self, value: bytes) -> str:
        return super().text(value).strip() or " "


@faults.breaks("PARAM-9")
class Lowercased(Parameters):
    """Identifiers are converted to lower case."""

    def text(self, value: bytes) -> str:
        return super().text(value).lower()


@faults.breaks("PARAM-9")
class NfcNormalised(Parameters):
    """Identifiers are normalised to NFC."""

    def text(self, value: bytes) -> str:
        return unicodedata.normalize("NFC", super().text(value))


@faults.breaks("PARAM-9")
class NfkcNormalised(Parameters):
    """Identifiers are normalised to NFKC."""

    def text(self, value: bytes) -> str:
        return unicodedata.normalize("NFKC", super().text(value))


@faults.breaks("PARAM-9")
class BomStripped(Parameters):
    """U+FEFF at the start of an identifier is removed."""

    def text(self, value: bytes) -> str:
        return value.decode("utf-8-sig") or "\ufeff"


@faults.breaks("PARAM-9")
class InvisibleDropped(Parameters):
    """Invisible characters, for example U+200B, are removed from identifiers."""

    def text(self, value: bytes) -> str:
        text = super().text(value)
        return "".join(char for char in text if unicodedata.category(char) != "Cf") or text


@faults.breaks("PARAM-9")
class UnescapedTwice(Parameters):
    """Percent-escapes are decoded twice."""

    def text(self, value: bytes) -> str:
        return super().text(unquote_to_bytes(value))


@faults.breaks("PARAM-9")
class EscapedPlusIsASpace(Parameters):
    """`%2B` is read as a space, because `+` is replaced after the escapes are decoded."""

    def unescape(self, escaped: bytes) -> bytes:
        return super().unescape(escaped).replace(b"+", b" ")


@faults.breaks("PARAM-9")
class SemicolonSeparates(Parameters):
    """`;` separates parameters, as `&` does."""

    def split(self, query: bytes) -> dict[str, list[bytes]]:
        return super().split(re.sub(rb";|%3[Bb]", b"&", query))


@faults.breaks("PARAM-9")
class RawSemicolonSeparates(Parameters):
    """`;` separates parameters if it is not escaped, as older standards recommended."""

    def split(self, query: bytes) -> dict[str, list[bytes]]:
        return super().split(query.replace(b";", b"&"))


@faults.breaks("PARAM-9")
class RawCommaSeparatesValues(Parameters):
    """A comma that is not escaped separates the values of a list, and the first one counts."""

    def split(self, query: bytes) -> dict[str, list[bytes]]:
        return super().split(re.sub(rb",[^&]*", b"", query))


@faults.breaks("PARAM-9")
class CutAtHash(Parameters):
    """An identifier ends before its first `#`."""

    def text(self, value: bytes) -> str:
        return super().text(value.partition(b"#")[0] or value)


@faults.breaks("PARAM-9")
class NumbersAreFolded(Parameters):
    """An identifier of digits is read as a number and loses its leading zeros."""

    def text(self, value: bytes) -> str:
        text = super().text(value)
        return str(int(text)) if text.isdecimal() and len(text) < 1000 else text


@faults.breaks("PARAM-9")
class CutTo64(Store):
    """Identifiers are compared by their first 64 characters."""

    def key(self, identifier: str) -> str:
        return identifier[:64]


@faults.breaks("PARAM-9")
class CutTo128(Store):
    """Identifiers are cut to 128 characters."""

    def new_order(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return super().new_order(order_id[:128], executor_id[:128], zone_id[:128])

    def key(self, identifier: str) -> str:
        return identifier[:128]


@faults.breaks("PARAM-9")
class CutTo254(Store):
    """Identifiers are cut to 254 characters."""

    def new_order(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return super().new_order(order_id[:254], executor_id[:254], zone_id[:254])

    def key(self, identifier: str) -> str:
        return identifier[:254]


@faults.breaks("PARAM-9")
class CaseIsIgnored(Store):
    """Identifiers are compared without regard to case."""

    def key(self, identifier: str) -> str:
        return identifier.casefold()


@faults.breaks("PARAM-9")
class AccentsAreIgnored(Store):
    """Identifiers are compared without regard to accents, as in some database collations."""

    def key(self, identifier: str) -> str:
        return "".join(char for char in unicodedata.normalize("NFD", identifier) if not unicodedata.combining(char))


@faults.breaks("PARAM-9")
class TrailingSpacesAreIgnored(Store):
    """Identifiers are compared without trailing spaces, as in CHAR columns."""

    def key(self, identifier: str) -> str:
        return identifier.rstrip(" ")


@faults.breaks("PARAM-9")
class EquivalentIsTheSame(Store):
    """Identifiers are compared in NFC."""

    def key(self, identifier: str) -> str:
        return unicodedata.normalize("NFC", identifier)


@faults.breaks("PARAM-9")
class ComparedAsNumbers(Store):
    """Identifiers that look like numbers are compared as numbers: `7`, `07` and `7.0` are the same."""

    def key(self, identifier: str) -> str:
        return str(float(identifier)) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", identifier, re.ASCII) else identifier


@faults.breaks("PARAM-9")
class KeptHtmlEscaped(Store):
    """Identifiers are stored with `&amp;` for `&`."""

    def new_order(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return super().new_order(html.escape(order_id), html.escape(executor_id), html.escape(zone_id))

    def key(self, identifier: str) -> str:
        return html.unescape(identifier)


@faults.breaks("PARAM-10")
class PlusIsKept(Parameters):
    """`+` is read as a plus sign."""

    def unescape(self, escaped: bytes) -> bytes:
        return unquote_to_bytes(escaped)
