"""Parameters: missing, invalid, and opaque text of any kind, in the query string alone (PARAM)."""

import hashlib
import itertools
import random
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest

from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request, request_to
from contract_tests.suite.contract import (
    ACQUIRE,
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCEL,
    CANCELED,
    CREATED,
    MAX_LENGTH,
    OPERATIONS,
    Answer,
    Operation,
)
from contract_tests.suite.scenario import Scenario
from contract_tests.suite.transport import Request, Response, query_string

TOO_LONG = "x" * (MAX_LENGTH + 1)
PARAMETERS = [(operation, name) for operation in OPERATIONS for name in operation.parameters]
every_parameter = pytest.mark.parametrize(
    ("operation", "name"), PARAMETERS, ids=[f"{operation.name}-{name}" for operation, name in PARAMETERS]
)


def request_with(scenario: Scenario, operation: Operation, raw: dict[str, str]) -> Request:
    """Return a call with new identifiers, except for the parameters in `raw`, whose values are percent-encoded."""
    new = {name: scenario.new_id(name) for name in operation.parameters}
    return request_to(operation, raw_query(new | raw))


def raw_query(values: dict[str, str]) -> str:
    """Return a query of values that are percent-encoded."""
    return "&".join(f"{name}={value}" for name, value in values.items())


@pytest.mark.clause("PARAM-1")
@every_parameter
def test_an_empty_parameter_is_missing(scenario: Scenario, operation: Operation, name: str) -> None:
    """An empty value, with and without `=`, counts as missing."""
    request = request_with(scenario, operation, {name: ""})
    scenario.call(request)
    scenario.call(replace(request, query=request.query.replace(f"{name}=", name)))


@pytest.mark.clause("PARAM-2")
def test_missing_is_reported_before_invalid(scenario: Scenario) -> None:
    """If one parameter is missing and another invalid, in any order, the message is that of the missing one."""
    bad = {"order_id": "%00", "executor_id": TOO_LONG, "zone_id": "%FF"}
    for missing, wrong in itertools.permutations(bad, 2):
        values = {name: scenario.new_id(name) for name in bad} | {wrong: bad[wrong], missing: ""}
        scenario.call(request_to(ASSIGN, raw_query(values)))
        del values[missing]
        scenario.call(request_to(ASSIGN, raw_query(values)))


# Text that is allowed, although some programs change or refuse it. {} stands for an identifier.
TEXTS = {
    "one-space-inside": "{} {}",
    "space-around": " {} ",
    "no-break-space-around": "\u00a0{}\u00a0",
    "other-spaces-around": "\u3000{}\u2003",
    "punctuation": "{}!\"#$%&'()*+,-./:;<=>?@[\\]^_`{{|}}~",
    "looks-encoded": "{}%41%2B+%25",
    "looks-like-a-query": "{}&order_id=x&executor_id=y&zone_id=z#end",
    "looks-like-sql": "{}'; DROP TABLE orders; -- %_*",
    "looks-like-html": "<script>{}</script>&lt;",
    "looks-like-json": '{}","x":null,{{}}',
    "looks-like-a-path": "../../{}/..\\",
    "looks-like-a-format": "%s%d%n{}$$order_id${{jndi}}",
    "looks-like-a-list": "{},a,b;c|d",
    "looks-like-a-list-in-brackets": "[{}]",
    "accents": "Ünïcödé-{}-ñ",
    "cyrillic": "Заказ-{}-ёЁ",
    "cjk": "注文-{}-日本語",
    "right-to-left": "שלום-{}-مرحبا",
    "emoji": "🛵{}👩\N{ZERO WIDTH JOINER}🚀🇫🇷",
    "combining": "e\N{COMBINING ACUTE ACCENT}{}a\N{COMBINING RING ABOVE}",
    "byte-order-mark": "\N{ZERO WIDTH NO-BREAK SPACE}{}\N{ZERO WIDTH NO-BREAK SPACE}",
    "zero-width": "\N{ZERO WIDTH SPACE}{}\N{WORD JOINER}\N{SOFT HYPHEN}",
    "replacement-character": "\N{REPLACEMENT CHARACTER}{}",
    "c1-controls": "\u0080{}\u0085\u009f",
    "line-separators": "\u2028{}\u2029",
    "noncharacters": "\ufffe{}\uffff\U0010ffff",
    "private-use": "\ue000{}\U000f0000",
    "bidi-override": "\u202e{}\u202c",
}


every_text = pytest.mark.parametrize("form", TEXTS.values(), ids=TEXTS)


def order_of(scenario: Scenario, form: str) -> Order:
    """Return a new order whose three texts have a form."""
    return Order(*(form.format(scenario.new_id("o"), "x") for _ in range(3)))


@pytest.mark.clause("PARAM-3")
@every_text
def test_text_of_all_kinds_is_accepted(scenario: Scenario, form: str) -> None:
    """Text that other programs refuse is an identifier like any other, in each operation."""
    order = order_of(scenario, form)
    scenario.assign(order)
    scenario.call(acquire_request(order.executor_id))
    scenario.call(cancel_request(order.order_id))


def round_trip(scenario: Scenario, order: Order) -> None:
    """Take an order through its life, and check that each answer has its identifiers unchanged."""
    with scenario.preparation():
        scenario.assign(order)
    scenario.acquire(order)
    scenario.assign_known(order)
    scenario.cancel(order)
    scenario.cancel_nothing(order.order_id)
    scenario.acquire_nothing(order.executor_id)


@pytest.mark.clause("PARAM-9")
@every_text
def test_text_of_all_kinds_makes_the_round_trip(scenario: Scenario, form: str) -> None:
    """Text that other programs trim, decode or normalise comes back as it was sent."""
    round_trip(scenario, order_of(scenario, form))


@pytest.mark.clause("PARAM-3")
def test_identifiers_may_be_short(scenario: Scenario) -> None:
    """One code point is enough."""
    # Characters for private use, because others may use the server too. Earlier runs may have taken the first choice.
    choices = random.SystemRandom().sample(range(0xF0000, 0xFFFFE), 6)
    *order_ids, executor_id = map(chr, choices)
    for order_id in order_ids:
        scenario.forget()
        order = Order(order_id, executor_id, "z")
        if scenario.call(assign_request(order)).answer == CREATED:
            break
    scenario.acquire(order)
    scenario.cancel(order)


def padded(start: str, filler: str, length: int) -> str:
    """Return a text of `length` code points that starts with one text and is filled with another."""
    return start + filler * (length - len(start))


FILLERS = {"ascii": "x", "two-bytes": "é", "three-bytes": "漢", "four-bytes": "🚲", "combining": "\u0301"}


every_filler = pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)


def long_request(scenario: Scenario, operation: Operation, name: str, filler: str, length: int) -> Request:
    """Return a call in which one parameter has `length` code points."""
    return request_with(scenario, operation, {name: quote(padded(scenario.new_id("long"), filler, length), safe="")})


@pytest.mark.clause("PARAM-3")
@every_parameter
@every_filler
def test_up_to_255_code_points_are_accepted(scenario: Scenario, operation: Operation, name: str, filler: str) -> None:
    """The limit is in code points, whatever their number of bytes or UTF-16 units."""
    for length in (MAX_LENGTH - 1, MAX_LENGTH):
        scenario.forget()
        request = long_request(scenario, operation, name, filler, length)
        scenario.call(request, CREATED if operation is ASSIGN else None)


@pytest.mark.clause("PARAM-4")
@every_parameter
@every_filler
def test_more_code_points_are_invalid(scenario: Scenario, operation: Operation, name: str, filler: str) -> None:
    """256 code points are too many, whatever their number of bytes or UTF-16 units."""
    for length in (MAX_LENGTH + 1, MAX_LENGTH + 2, 2 * MAX_LENGTH):
        scenario.forget()
        scenario.call(long_request(scenario, operation, name, filler, length))


@pytest.mark.clause("PARAM-9")
@every_filler
def test_long_identifiers_make_the_round_trip(scenario: Scenario, filler: str) -> None:
    """Identifiers of 255 code points come back whole."""
    texts = (padded(scenario.new_id("long"), filler, MAX_LENGTH) for _ in range(3))
    round_trip(scenario, Order(*texts))


CONTROLS = [*range(0x20), 0x7F]


@pytest.mark.clause("PARAM-5")
@every_parameter
def test_control_characters_are_invalid(scenario: Scenario, operation: Operation, name: str) -> None:
    """Each of the 33 control characters is refused: inside, in front and at the end."""
    forms = ("{id}{char}{id}", "{char}{id}", "{id}{char}")
    for code in CONTROLS:
        # The characters that are most often trimmed are tried in all places, the others in one place each.
        for form in forms if chr(code) in "\0\t\n\r" else [forms[code % 3]]:
            scenario.forget()
            value = form.format(id=scenario.new_id("c"), char=f"%{code:02X}")
            scenario.call(request_with(scenario, operation, {name: value}))
    for value in ("%00", "x" * 200 + "%0A", "%20%20%09"):
        scenario.forget()
        scenario.call(request_with(scenario, operation, {name: value}))


NOT_UTF_8 = {
    "stray-byte": "%FF",
    "continuation": "%80",
    "cut-off": "%C3",
    "cut-off-later": "%E2%82",
    "wrong-continuation": "%C3%28",
    "overlong": "%C0%AF",
    "surrogate": "%ED%A0%80",
    "beyond-unicode": "%F4%90%80%80",
    "latin-1": "caf%E9",
}


@pytest.mark.clause("PARAM-6")
@every_parameter
@pytest.mark.parametrize("bytes_", NOT_UTF_8.values(), ids=NOT_UTF_8)
def test_what_is_not_utf_8_is_invalid(scenario: Scenario, operation: Operation, name: str, bytes_: str) -> None:
    """Bytes that are not UTF-8 are refused, alone and among text. Nothing is replaced or guessed."""
    for value in (bytes_, f"{scenario.new_id('u')}{bytes_}", f"{bytes_}x{scenario.new_id('u')}"):
        scenario.forget()
        scenario.call(request_with(scenario, operation, {name: value}))


@pytest.mark.clause("PARAM-7")
@every_parameter
@pytest.mark.parametrize("again", ["same", "another", "thrice", "apart"])
def test_a_parameter_given_more_than_once_is_invalid(
    scenario: Scenario, operation: Operation, name: str, again: str
) -> None:
    """Neither the first nor the last of several values counts, even if they are the same."""
    request = request_with(scenario, operation, {})
    own = next(part for part in request.query.split("&") if part.startswith(f"{name}="))
    other = f"{name}={scenario.new_id('other')}"
    query = {
        "same": f"{request.query}&{own}",
        "another": f"{request.query}&{other}",
        "thrice": f"{request.query}&{other}&{other}",
        "apart": f"{other}&{request.query}&x=y",
    }[again]
    scenario.call(replace(request, query=query))


@pytest.mark.clause("PARAM-7")
def test_nothing_happens_to_either_of_two_values(scenario: Scenario) -> None:
    """A cancel with two orders cancels neither."""
    orders = [scenario.prepare() for _ in range(2)]
    query = query_string(("order_id", order.order_id) for order in orders)
    scenario.call(request_to(CANCEL, query))
    for order in orders:
        scenario.acquire(order)


@pytest.mark.parametrize("name", ["executor_id", "zone_id"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", marks=pytest.mark.clause("PARAM-1"), id="empty"),
        pytest.param(TOO_LONG, marks=pytest.mark.clause("PARAM-4"), id="too-long"),
        pytest.param("x%09", marks=pytest.mark.clause("PARAM-5"), id="control-character"),
        pytest.param("%FF", marks=pytest.mark.clause("PARAM-6"), id="not-utf-8"),
        pytest.param("x&{name}=x", marks=pytest.mark.clause("PARAM-7"), id="twice"),
    ],
)
def test_a_known_order_excuses_no_bad_parameter(scenario: Scenario, value: str, name: str) -> None:
    """A bad parameter is reported even if the order is known."""
    order = scenario.prepare()
    values = {"order_id": order.order_id, "executor_id": "x", "zone_id": "x"} | {name: value.format(name=name)}
    scenario.call(request_to(ASSIGN, raw_query(values)))


INVALID = {
    "order_id": ["%00", TOO_LONG, "x&order_id=x", "%FF"],
    "executor_id": [TOO_LONG, "x&executor_id=y", "%FF", "%0A"],
    "zone_id": ["x&zone_id=x", "%FF", "%7F", TOO_LONG],
}


@pytest.mark.clause("PARAM-8")
@pytest.mark.parametrize("order", list(itertools.permutations(INVALID)), ids="-".join)
def test_the_first_invalid_parameter_is_named(scenario: Scenario, order: tuple[str, ...]) -> None:
    """Of several invalid parameters, in any order, the message names the first in the document's order."""
    for count, which in itertools.product((2, 3), range(4)):
        for wrong in itertools.combinations(INVALID, count):
            scenario.forget()
            values = {name: INVALID[name][which] if name in wrong else scenario.new_id(name) for name in order}
            scenario.call(request_to(ASSIGN, raw_query(values)))


@pytest.mark.clause("PARAM-12")
@pytest.mark.parametrize("order", list(itertools.permutations(ASSIGN.parameters)), ids="-".join)
def test_the_order_of_parameters_does_not_matter(scenario: Scenario, order: tuple[str, ...]) -> None:
    """Parameters are recognised by their names, in any order."""
    new = scenario.new_order()
    scenario.call(request_to(ASSIGN, query_string((name, getattr(new, name)) for name in order)), CREATED)
    scenario.acquire(new)


def digits(text: str) -> str:
    """Return 18 digits that a text decides."""
    return str(10**17 + int.from_bytes(hashlib.sha256(text.encode()).digest()) % 10**17)


def differing_at(length: int) -> Callable[[str], tuple[str, str]]:
    """Return a function that makes two identifiers of a length, which differ in the last code point."""
    return lambda new: (padded(new, "x", length - 1) + "a", padded(new, "x", length - 1) + "b")


# Functions that make a pair of identifiers from a new one. The two differ in something that other programs overlook.
ALIKE: dict[str, Callable[[str], tuple[str, str]]] = {
    "case": lambda new: (f"{new}-abc", f"{new}-ABC"),
    "case-of-one-letter": lambda new: (f"{new}-abc", f"{new}-abC"),
    "case-beyond-ascii": lambda new: (f"{new}-é", f"{new}-É"),
    "sharp-s": lambda new: (f"{new}-straße", f"{new}-strasse"),
    "dotless-i": lambda new: (f"{new}-i", f"{new}-\N{LATIN SMALL LETTER DOTLESS I}"),
    "kelvin-sign": lambda new: (f"{new}-K", f"{new}-\N{KELVIN SIGN}"),
    "space-at-the-end": lambda new: (new, f"{new} "),
    "space-in-front": lambda new: (new, f" {new}"),
    "two-spaces-inside": lambda new: (f"{new} x", f"{new}  x"),
    "no-break-space": lambda new: (f"{new} x", f"{new}\N{NO-BREAK SPACE}x"),
    "no-break-space-at-the-end": lambda new: (new, f"{new}\N{NO-BREAK SPACE}"),
    "normal-forms": lambda new: (unicodedata.normalize("NFC", f"{new}-é"), unicodedata.normalize("NFD", f"{new}-é")),
    "compatibility": lambda new: (f"{new}-1A", f"{new}-\N{FULLWIDTH DIGIT ONE}\N{FULLWIDTH LATIN CAPITAL LETTER A}"),
    "ligature": lambda new: (f"{new}-fi", f"{new}-\N{LATIN SMALL LIGATURE FI}"),
    "accent": lambda new: (f"{new}-e", f"{new}-é"),
    "byte-order-mark": lambda new: (new, f"\N{ZERO WIDTH NO-BREAK SPACE}{new}"),
    "zero-width-space": lambda new: (new, f"{new}\N{ZERO WIDTH SPACE}"),
    "leading-zero": lambda new: (digits(new), f"0{digits(new)}"),
    "last-digit": lambda new: (f"{digits(new)}1", f"{digits(new)}2"),
    "last-of-many-digits": lambda new: (digits(new) * 3 + "1", digits(new) * 3 + "2"),
    "fraction": lambda new: (digits(new), f"{digits(new)}.0"),
    "sign": lambda new: (digits(new), f"+{digits(new)}"),
    "plus-and-space": lambda new: (f"{new}+x", f"{new} x"),
    "percent": lambda new: (f"{new}-A", f"{new}-%41"),
    "percent-of-plus": lambda new: (f"{new}-+", f"{new}-%2B"),
    "quotes": lambda new: (new, f'"{new}"'),
    "backslash": lambda new: (f"{new}x", f"{new}\\x"),
    "trailing-slash": lambda new: (new, f"{new}/"),
    "trailing-dot": lambda new: (new, f"{new}."),
    "after-a-comma": lambda new: (new, f"{new},x"),
    "after-a-semicolon": lambda new: (new, f"{new};x"),
    "after-an-equals-sign": lambda new: (new, f"{new}=x"),
    "wildcard": lambda new: (f"{new}-x", f"{new}-%"),
    "one-character-wildcard": lambda new: (f"{new}-x", f"{new}-_"),
    "hyphen-and-underscore": lambda new: (f"{new}-x-x", f"{new}-x_x"),
    "prefix": lambda new: (f"{new}-x", f"{new}-xx"),
    **{f"code-point-{length}": differing_at(length) for length in (33, 37, 51, 65, 101, 129, 192, 201, 251)},
    "last-code-point": differing_at(MAX_LENGTH),
    "last-wide-code-point": lambda new: (
        padded(new, "🚲", MAX_LENGTH - 1) + "a",
        padded(new, "🚲", MAX_LENGTH - 1) + "b",
    ),
    "length": lambda new: (padded(new, "y", MAX_LENGTH - 1), padded(new, "y", MAX_LENGTH)),
}
every_pair = pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)


@pytest.mark.clause("PARAM-9")
@every_pair
def test_orders_that_look_alike_are_two(scenario: Scenario, pair: Callable[[str], tuple[str, str]]) -> None:
    """Two order_ids that differ in anything are two orders. Each is created, cancelled and echoed for itself."""
    first, second = (replace(scenario.new_order(), order_id=text) for text in pair(scenario.new_id("id")))
    scenario.assign(first)
    scenario.cancel_nothing(second.order_id)
    scenario.assign(second)
    scenario.cancel(second)
    scenario.acquire_nothing(second.executor_id)
    scenario.acquire(first)


@pytest.mark.clause("PARAM-9")
@every_pair
def test_executors_that_look_alike_are_two(scenario: Scenario, pair: Callable[[str], tuple[str, str]]) -> None:
    """Two executor_ids that differ in anything are two executors. Each has their own order."""
    first, second = (scenario.new_order(text) for text in pair(scenario.new_id("id")))
    scenario.assign(first)
    scenario.acquire_nothing(second.executor_id)
    scenario.assign(second)
    scenario.cancel(first)
    scenario.acquire_nothing(first.executor_id)
    scenario.acquire(second)


@pytest.mark.clause("PARAM-9")
@every_pair
def test_zones_are_kept_as_they_are(scenario: Scenario, pair: Callable[[str], tuple[str, str]]) -> None:
    """A zone_id comes back as it was sent, whatever it looks like."""
    for zone_id in pair(scenario.new_id("zone")):
        order = replace(scenario.new_order(), zone_id=zone_id)
        scenario.assign(order)
        scenario.acquire(order)


every_special_zone = pytest.mark.parametrize(
    "zone_id",
    [
        "null",
        "None",
        "undefined",
        "NaN",
        "true",
        "false",
        "0",
        "-1",
        "1e3",
        "007",
        "[]",
        "{}",
        "''",
        " ",
        "   ",
        "\u00a0",
        "C:\\new\\table\\\\",
        "\\u0041\\x41",
        "&amp;&#65;",
        "%41%2541",
        "${HOME}",
        "a,b",
    ],
)


@pytest.mark.clause("PARAM-3")
@every_special_zone
def test_text_that_means_something_elsewhere_is_there(scenario: Scenario, zone_id: str) -> None:
    """A zone with such a name does not count as missing or invalid."""
    scenario.assign(replace(scenario.new_order(), zone_id=zone_id))


@pytest.mark.clause("PARAM-9")
@every_special_zone
def test_text_that_means_something_elsewhere_is_text(scenario: Scenario, zone_id: str) -> None:
    """A zone with such a name is kept as text."""
    order = replace(scenario.new_order(), zone_id=zone_id)
    with scenario.preparation():
        scenario.assign(order)
    scenario.acquire(order)


@pytest.mark.clause("PARAM-9")
def test_names_of_object_properties_are_text(scenario: Scenario) -> None:
    """The properties that each object of some languages has name no executor, and a zone like any other."""
    for name in ("__proto__", "constructor", "hasOwnProperty", "__class__"):
        scenario.forget()
        scenario.acquire_nothing(name)
        order = replace(scenario.new_order(), zone_id=name)
        scenario.assign(order)
        scenario.acquire(order)


@pytest.mark.clause("PARAM-9")
@pytest.mark.parametrize("character", "=?/:@!$'()*,;~-._")
def test_characters_that_need_no_escape_may_go_without(scenario: Scenario, character: str) -> None:
    """A character that RFC 3986 §3.4 allows in a query, and that separates nothing in it, stands for itself."""
    ids = {name: f"{scenario.new_id(name)}{character}x" for name in ASSIGN.parameters}
    order = Order(**ids)
    scenario.call(request_to(ASSIGN, raw_query(ids)), CREATED)
    response = scenario.call(request_to(ACQUIRE, f"executor_id={order.executor_id}"), ACQUIRED)
    scenario.check_profile(response, order)
    scenario.call(request_to(CANCEL, f"order_id={scenario.new_id('o')}{character}x"))


@pytest.mark.clause("PARAM-10")
@every_parameter
def test_plus_and_percent_20_are_a_space(scenario: Scenario, operation: Operation, name: str) -> None:
    """`a+b` and `a%20b` are the same identifier, `a b`."""
    unique = scenario.new_id("p")
    order = replace(scenario.new_order(), **{name: f"{unique} s p"})
    spellings = [f"{unique}+s+p", f"{unique}%20s%20p", f"{unique}+s%20p"]

    def spelled(request: Request, value: str) -> Request:
        given = [part for part in request.query.split("&") if not part.startswith(name)]
        return replace(request, query="&".join([*given, f"{name}={value}"]))

    if operation is ASSIGN:
        scenario.call(spelled(assign_request(order), spellings[0]), CREATED)
        scenario.acquire(order)
        for spelling in spellings if name == "order_id" else []:
            scenario.call(spelled(assign_request(order), spelling), ALREADY_EXISTS)
        return
    scenario.assign(order)
    if operation is ACQUIRE:
        for spelling in spellings:
            response = scenario.call(spelled(acquire_request(order.executor_id), spelling), ACQUIRED)
            scenario.check_profile(response, order)
    else:
        scenario.call(spelled(cancel_request(order.order_id), spellings[0]), CANCELED)
        for spelling in spellings:
            scenario.call(spelled(cancel_request(order.order_id), spelling))


def form_of(order: Order) -> bytes:
    """Return an order as a form's body."""
    return query_string(vars(order).items()).encode()


def json_of(order: Order) -> bytes:
    """Return an order as a body of JSON."""
    return ("{" + ", ".join(f'"{name}": "{value}"' for name, value in vars(order).items()) + "}").encode()


def multipart_of(order: Order) -> bytes:
    """Return an order as a body of several parts."""
    parts = (
        f'--limit\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in vars(order).items()
    )
    return ("".join(parts) + "--limit--\r\n").encode()


BODIES = {
    "form": ("application/x-www-form-urlencoded", form_of),
    "json": ("application/json", json_of),
    "multipart": ("multipart/form-data; boundary=limit", multipart_of),
    "text": ("text/plain", form_of),
    "no-content-type": (None, form_of),
    "broken-json": ("application/json", lambda order: b'{"order_id": '),
    "json-that-is-no-object": ("application/json", lambda order: b"[1, null]"),
    "broken-form": ("application/x-www-form-urlencoded", lambda order: b"%FF%zz&&==\x00"),
    "broken-multipart": ("multipart/form-data; boundary=limit", lambda order: b"--limit\r\nbroken"),
    "multipart-without-boundary": ("multipart/form-data", multipart_of),
    "broken-content-type": ("///;;=", form_of),
    "xml": ("application/xml", lambda order: b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///dev/null'>]><x>&y;"),
    "bytes": ("application/octet-stream", lambda order: bytes(range(256))),
    "large": ("application/x-www-form-urlencoded", lambda order: form_of(order) + b"&x=" + b"y" * 20_000),
}


@pytest.mark.clause("PARAM-11")
@pytest.mark.parametrize("in_chunks", [False, True], ids=["whole", "chunked"])
@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_ignored(scenario: Scenario, kind: str, in_chunks: bool) -> None:
    """No parameter is taken from a body, and no request is refused because of it."""
    content_type, make = BODIES[kind]
    decoy, cancelled, order = scenario.prepare(), scenario.prepare(), scenario.new_order()
    headers = [("Content-Type", content_type)] if content_type else []
    headers += [("Transfer-Encoding", "chunked")] if in_chunks else []

    def call(request: Request, expected: Answer | None = None) -> Response:
        return scenario.call(replace(request, headers=tuple(headers), body=make(decoy)), expected)

    # The body replaces no missing parameter …
    for request in (
        *(request_to(operation) for operation in OPERATIONS),
        request_to(ASSIGN, query_string([("order_id", order.order_id), ("zone_id", order.zone_id)])),
    ):
        call(request)
    # … and none that is there. The next request on the connection is answered too.
    call(assign_request(order), CREATED)
    scenario.check_profile(call(acquire_request(order.executor_id), ACQUIRED), order)
    call(cancel_request(cancelled.order_id), CANCELED)
    scenario.acquire(decoy)


@pytest.mark.clause("PARAM-11")
@every_parameter
def test_nothing_is_taken_from_headers(scenario: Scenario, operation: Operation, name: str) -> None:
    """A header or a cookie with a parameter's name is no parameter."""
    request = request_with(scenario, operation, {})
    title = "-".join(part.title() for part in name.split("_"))
    headers = ((f"X-{title}", "x"), (title, "x"), ("Cookie", f"{name}=x"))
    parts = [part for part in request.query.split("&") if not part.startswith(name)]
    scenario.call(replace(request, query="&".join(parts), headers=headers))


UNKNOWN = {
    "one": "x=1",
    "several": "a=1&b=2&a=3",
    "without-value": "flag&other=",
    "control-characters": "x=%00%0A",
    "not-utf-8": "x=%FF&%FF=x",
    "long": "x=" + "y" * 600,
    "similar": "order=1&order-id=2&executor=3&zone=4&id=5",
    "empty-parts": "&&",
    "of-frameworks": "callback=x&format=xml&_method=DELETE&debug=1&pretty=1&limit=0&fields=order_id",
    "of-the-profile": "execution_status=cancelled&assigned_order_id=1&assign_time=0&acquire_time=0",
}


@pytest.mark.clause("PARAM-12")
@pytest.mark.parametrize("extra", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_parameters_are_ignored(scenario: Scenario, extra: str) -> None:
    """Parameters that an operation does not have make no difference, whatever their values are."""
    order = scenario.new_order()

    def around(request: Request) -> Request:
        return replace(request, query=f"{extra}&{request.query}&{extra}")

    scenario.call(around(assign_request(order)), CREATED)
    scenario.check_profile(scenario.call(around(acquire_request(order.executor_id)), ACQUIRED), order)
    scenario.call(around(cancel_request(scenario.prepare().order_id)), CANCELED)


@pytest.mark.clause("PARAM-12")
@every_parameter
@pytest.mark.parametrize("form", ["upper", "brackets", "space", "prefix"])
def test_names_that_look_alike_are_unknown(scenario: Scenario, operation: Operation, name: str, form: str) -> None:
    """A parameter has one exact name. Another spelling of it is another parameter, which is unknown."""
    other = {"upper": name.upper(), "brackets": f"{name}%5B%5D", "space": f"+{name}", "prefix": f"x{name}"}[form]
    request = request_with(scenario, operation, {})
    scenario.call(replace(request, query=f"{other}=x&{request.query}&{other}=y"))
    scenario.call(replace(request, query=request.query.replace(f"{name}=", f"{other}=")))


@pytest.mark.clause("PARAM-12")
def test_another_operation_s_parameters_are_unknown(scenario: Scenario) -> None:
    """Acquire ignores an order_id, and cancel an executor_id, even an invalid one."""
    order, other = scenario.prepare(), scenario.prepare()
    for extra in (query_string([("order_id", other.order_id), ("zone_id", other.zone_id)]), "order_id=%00&order_id="):
        request = acquire_request(order.executor_id)
        response = scenario.call(replace(request, query=f"{extra}&{request.query}"), ACQUIRED)
        scenario.check_profile(response, order)
    request = cancel_request(scenario.prepare().order_id)
    extra = query_string([("executor_id", other.executor_id)])
    scenario.call(replace(request, query=f"{extra}&{request.query}&zone_id=%FF"), CANCELED)
    scenario.acquire(other)
