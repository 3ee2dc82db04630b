"""Parameters: missing, invalid, and opaque text of any kind, in the query string alone (PARAM)."""

import hashlib
import itertools
import random
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest

from contract_tests.rules import ACQUIRE, ACQUIRED, ASSIGN, CANCEL, CREATED, MAX_CODE_POINTS, OPERATIONS, Operation
from contract_tests.service import (
    Order,
    Service,
    acquire_request,
    assign_request,
    cancel_request,
)
from contract_tests.transport import Answer, Request, encode

PARAMETERS = [(operation, name) for operation in OPERATIONS for name in operation.parameters]
every_parameter = pytest.mark.parametrize(
    ("operation", "name"), PARAMETERS, ids=[f"{operation.name}-{name}" for operation, name in PARAMETERS]
)


def request_with(service: Service, operation: Operation, raw: dict[str, str]) -> Request:
    """Return a call with new identifiers, but for some parameters with these values, percent-encoded already."""
    new = {name: service.run.new_id(name) for name in operation.parameters}
    return Request(operation.method, operation.path, "&".join(f"{name}={value}" for name, value in (new | raw).items()))


@pytest.mark.clause("PARAM-1")
@every_parameter
def test_an_empty_parameter_is_missing(service: Service, operation: Operation, name: str) -> None:
    """An empty value, with and without `=`, is as good as none."""
    with service.clause("PARAM-1"):
        request = request_with(service, operation, {name: ""})
        service.call(request)
        service.call(replace(request, query=request.query.replace(f"{name}=", name)))


@pytest.mark.clause("PARAM-2")
def test_missing_is_reported_before_invalid(service: Service) -> None:
    """If one parameter is missing and another invalid, the message is that of the missing one, wherever it stands."""
    bad = {"order_id": "%00", "executor_id": "x" * 256, "zone_id": "%FF"}
    with service.clause("PARAM-2"):
        for missing in ASSIGN.parameters:
            for wrong in set(bad) - {missing}:
                for empty in (False, True):
                    values = {name: service.run.new_id(name) for name in bad} | {wrong: bad[wrong]}
                    values[missing] = ""
                    given = [f"{name}={value}" for name, value in values.items() if empty or name != missing]
                    service.call(Request(ASSIGN.method, ASSIGN.path, "&".join(given)))


# Text that is allowed although some code takes exception to it; {} stands for an identifier.
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


def round_trip(service: Service, order: Order) -> None:
    """Take an order through its life, and find its identifiers unchanged in every answer."""
    with service.clause("PARAM-3"):
        service.assign(order)
    with service.clause("PARAM-9"):
        first = service.acquire(order)
        service.check(service.acquire(order).body == first.body, "the bytes of the first acquire")
        service.assign_known(order)
        service.cancel(order)
        service.cancel_nothing(order.order_id)
        service.acquire_nothing(order.executor_id)


@pytest.mark.clause("PARAM-3", "PARAM-9")
@pytest.mark.parametrize("form", TEXTS.values(), ids=TEXTS)
def test_text_of_all_kinds_makes_the_round_trip(service: Service, form: str) -> None:
    """Text that other programs trim, decode, normalise or refuse is an identifier like any other."""
    order_id, executor_id, zone_id = (form.format(service.run.new_id("o"), "x") for _ in range(3))
    round_trip(service, Order(order_id, executor_id, zone_id))


@pytest.mark.clause("PARAM-3", "PARAM-9")
def test_identifiers_may_be_short(service: Service) -> None:
    """One code point is enough."""
    # Private use, so that nobody else's order is meant, on a server that others use too; but earlier runs may have
    # taken the first choice.
    choices = random.SystemRandom().sample(range(0xF0000, 0xFFFFE), 6)
    *order_ids, executor_id = map(chr, choices)
    for order_id in order_ids:
        service.begin()
        order = Order(order_id, executor_id, "z")
        with service.clause("PARAM-3"):
            answer = service.call(assign_request(order))
        if answer.message == CREATED:
            break
    with service.clause("PARAM-9"):
        service.acquire(order)
        service.cancel(order)
        service.cancel_nothing(order.order_id)


def padded(start: str, filler: str, length: int) -> str:
    """Return a text of so many code points that begins in one way and goes on in another."""
    return start + filler * (length - len(start))


FILLERS = {"ascii": "x", "two-bytes": "é", "three-bytes": "漢", "four-bytes": "🚲", "combining": "\u0301"}


@pytest.mark.clause("PARAM-3", "PARAM-4")
@every_parameter
@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
def test_255_code_points_are_accepted_and_256_are_not(
    service: Service, operation: Operation, name: str, filler: str
) -> None:
    """The limit is counted in code points, neither in bytes nor in UTF-16 units."""

    def request(length: int) -> Request:
        return request_with(
            service, operation, {name: quote(padded(service.run.new_id("long"), filler, length), safe="")}
        )

    with service.clause("PARAM-3"):
        for length in (MAX_CODE_POINTS - 1, MAX_CODE_POINTS):
            service.begin()
            service.call(request(length), CREATED if operation is ASSIGN else None)
    with service.clause("PARAM-4"):
        for length in (MAX_CODE_POINTS + 1, MAX_CODE_POINTS + 2, 400):
            service.begin()
            service.call(request(length))


@pytest.mark.clause("PARAM-3", "PARAM-9")
@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
def test_long_identifiers_make_the_round_trip(service: Service, filler: str) -> None:
    """255 code points come back whole."""
    new_id = service.run.new_id
    texts = (padded(new_id("long"), filler, MAX_CODE_POINTS) for _ in range(3))
    round_trip(service, Order(*texts))


CONTROLS = [*range(0x20), 0x7F]


@pytest.mark.clause("PARAM-5")
@every_parameter
def test_control_characters_are_invalid(service: Service, operation: Operation, name: str) -> None:
    """Every one of the 33 control characters is refused, inside, in front and at the end."""
    with service.clause("PARAM-5"):
        for code, form in itertools.product(CONTROLS, ("{id}{char}{id}", "{char}{id}", "{id}{char}")):
            # Everywhere the characters that are most often trimmed; of the others, one place each.
            if chr(code) in "\0\t\n\r" or ("{id}{char}{id}", "{char}{id}", "{id}{char}")[code % 3] == form:
                service.begin()
                value = form.format(id=service.run.new_id("c"), char=f"%{code:02X}")
                service.call(request_with(service, operation, {name: value}))
        for value in ("%00", "x" * 200 + "%0A", "%20%20%09"):
            service.begin()
            service.call(request_with(service, operation, {name: value}))


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
def test_what_is_not_utf_8_is_invalid(service: Service, operation: Operation, name: str, bytes_: str) -> None:
    """Bytes that are no UTF-8 are refused, alone and among text; nothing is replaced or guessed."""
    with service.clause("PARAM-6"):
        for value in (bytes_, f"{service.run.new_id('u')}{bytes_}", f"{bytes_}x{service.run.new_id('u')}"):
            service.begin()
            service.call(request_with(service, operation, {name: value}))


@pytest.mark.clause("PARAM-7")
@every_parameter
@pytest.mark.parametrize("again", ["same", "another", "thrice", "apart"])
def test_a_parameter_given_more_than_once_is_invalid(
    service: Service, operation: Operation, name: str, again: str
) -> None:
    """Neither the first nor the last of several values counts, even if they are the same."""
    with service.clause("PARAM-7"):
        request = request_with(service, operation, {})
        own = next(part for part in request.query.split("&") if part.startswith(f"{name}="))
        other = f"{name}={service.run.new_id('other')}"
        query = {
            "same": f"{request.query}&{own}",
            "another": f"{request.query}&{other}",
            "thrice": f"{request.query}&{other}&{other}",
            "apart": f"{other}&{request.query}&x=y",
        }[again]
        service.call(replace(request, query=query))


@pytest.mark.clause("PARAM-7")
def test_nothing_happens_to_either_of_two_values(service: Service) -> None:
    """A cancel with two orders cancels neither."""
    orders = [service.new_order() for _ in range(2)]
    for order in orders:
        service.assign(order)
    query = encode(("order_id", order.order_id) for order in orders)
    with service.clause("PARAM-7"):
        service.call(Request(CANCEL.method, CANCEL.path, query))
        for order in orders:
            service.acquire(order)


@pytest.mark.clause("PARAM-1", "PARAM-4", "PARAM-5", "PARAM-6", "PARAM-7")
@pytest.mark.parametrize("name", ["executor_id", "zone_id"])
@pytest.mark.parametrize(
    ("clause", "value"),
    [("PARAM-1", ""), ("PARAM-4", "x" * 256), ("PARAM-5", "x%09"), ("PARAM-6", "%FF"), ("PARAM-7", "x&{name}=x")],
    ids=["empty", "too-long", "control-character", "not-utf-8", "twice"],
)
def test_a_known_order_excuses_no_bad_parameter(service: Service, clause: str, value: str, name: str) -> None:
    """What is wrong with a request is reported before what is known of its order."""
    order = service.new_order()
    service.assign(order)
    values = {"order_id": order.order_id, "executor_id": "x", "zone_id": "x"} | {name: value.format(name=name)}
    with service.clause(clause):
        service.call(Request(ASSIGN.method, ASSIGN.path, "&".join(f"{key}={text}" for key, text in values.items())))


INVALID = {
    "order_id": ["%00", "x" * 256, "x&order_id=x", "%FF"],
    "executor_id": ["x" * 256, "x&executor_id=y", "%FF", "%0A"],
    "zone_id": ["x&zone_id=x", "%FF", "%7F", "x" * 256],
}


@pytest.mark.clause("PARAM-8")
@pytest.mark.parametrize("order", list(itertools.permutations(INVALID)), ids="-".join)
def test_the_first_invalid_parameter_is_named(service: Service, order: tuple[str, ...]) -> None:
    """Of several invalid parameters the first in the document's order is named, in whatever order they are given."""
    with service.clause("PARAM-8"):
        for count, which in itertools.product((2, 3), range(4)):
            for wrong in itertools.combinations(INVALID, count):
                service.begin()
                values = {name: INVALID[name][which] if name in wrong else service.run.new_id(name) for name in order}
                query = "&".join(f"{name}={value}" for name, value in values.items())
                service.call(Request(ASSIGN.method, ASSIGN.path, query))


@pytest.mark.clause("PARAM-12")
@pytest.mark.parametrize("order", list(itertools.permutations(ASSIGN.parameters)), ids="-".join)
def test_the_order_of_parameters_does_not_matter(service: Service, order: tuple[str, ...]) -> None:
    """Parameters are told apart by their names."""
    new = service.new_order()
    with service.clause("PARAM-12"):
        service.call(Request(ASSIGN.method, ASSIGN.path, encode((name, getattr(new, name)) for name in order)), CREATED)
        service.acquire(new)


def digits(text: str) -> str:
    """Return a number of 18 digits that stands for a text."""
    return str(10**17 + int.from_bytes(hashlib.sha256(text.encode()).digest()) % 10**17)


def differing_at(length: int) -> Callable[[str], tuple[str, str]]:
    """Return how to make two identifiers of a length that differ in the last code point."""
    return lambda new: (padded(new, "x", length - 1) + "a", padded(new, "x", length - 1) + "b")


# Pairs of identifiers that differ in something that other programs overlook, made from one that is new.
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
    **{f"code-point-{length}": differing_at(length) for length in (33, 37, 51, 65, 101, 129, 192, 201, 251, 255)},
    "code-point-255-wide": lambda new: (padded(new, "🚲", 254) + "a", padded(new, "🚲", 254) + "b"),
    "length-254-and-255": lambda new: (padded(new, "y", 254), padded(new, "y", 255)),
}
every_pair = pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)


@pytest.mark.clause("PARAM-9")
@every_pair
def test_orders_that_look_alike_are_two(service: Service, pair: Callable[[str], tuple[str, str]]) -> None:
    """Two order_ids that differ in anything are two orders: each is created, cancelled and echoed for itself."""
    first, second = (replace(service.new_order(), order_id=text) for text in pair(service.run.new_id("id")))
    with service.clause("PARAM-9"):
        service.assign(first)
        service.cancel_nothing(second.order_id)
        service.assign(second)
        service.acquire(first)
        service.acquire(second)
        service.cancel(second)
        service.acquire(first)
        service.cancel(first)


@pytest.mark.clause("PARAM-9")
@every_pair
def test_executors_that_look_alike_are_two(service: Service, pair: Callable[[str], tuple[str, str]]) -> None:
    """Two executor_ids that differ in anything are two executors: each has their own order."""
    first, second = (service.new_order(text) for text in pair(service.run.new_id("id")))
    with service.clause("PARAM-9"):
        service.assign(first)
        service.acquire_nothing(second.executor_id)
        service.assign(second)
        service.acquire(first)
        service.acquire(second)
        service.cancel(first)
        service.acquire_nothing(first.executor_id)
        service.acquire(second)


@pytest.mark.clause("PARAM-9")
@every_pair
def test_zones_are_kept_as_they_are(service: Service, pair: Callable[[str], tuple[str, str]]) -> None:
    """A zone_id comes back as it was sent, whatever it looks like."""
    with service.clause("PARAM-9"):
        for zone_id in pair(service.run.new_id("zone")):
            order = replace(service.new_order(), zone_id=zone_id)
            service.assign(order)
            service.acquire(order)


@pytest.mark.clause("PARAM-3", "PARAM-9")
@pytest.mark.parametrize(
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
def test_text_that_means_something_elsewhere_is_text(service: Service, zone_id: str) -> None:
    """A zone of this name is kept as text, and in no way missing."""
    order = replace(service.new_order(), zone_id=zone_id)
    with service.clause("PARAM-3"):
        service.assign(order)
    with service.clause("PARAM-9"):
        service.acquire(order)


@pytest.mark.clause("PARAM-9")
def test_names_of_object_properties_are_text(service: Service) -> None:
    """What every object of some languages has is no executor, and a zone like any other."""
    with service.clause("PARAM-9"):
        for name in ("__proto__", "constructor", "hasOwnProperty", "__class__"):
            service.begin()
            service.acquire_nothing(name)
            order = replace(service.new_order(), zone_id=name)
            service.assign(order)
            service.acquire(order)


@pytest.mark.clause("PARAM-9")
def test_characters_that_need_no_escape_may_go_without(service: Service) -> None:
    """Those that RFC 3986 §3.4 allows in a query, and that separate nothing in it, stand for themselves."""
    plain = "=?/:@!$'()*,~-._"
    order_id, executor_id = service.run.new_id("o"), service.run.new_id("e")
    order = Order(order_id + plain, executor_id + plain, plain)
    with service.clause("PARAM-9"):
        query = f"order_id={order.order_id}&executor_id={order.executor_id}&zone_id={order.zone_id}"
        service.call(Request(ASSIGN.method, ASSIGN.path, query), CREATED)
        service.acquire(order)
        service.cancel(order)


@pytest.mark.clause("PARAM-10")
@every_parameter
def test_plus_and_percent_20_are_a_space(service: Service, operation: Operation, name: str) -> None:
    """`a+b` and `a%20b` are the same identifier, `a b`; a plus sign is `%2B`."""
    unique = service.run.new_id("p")
    order = replace(service.new_order(), **{name: f"{unique} s + p"})
    spellings = [f"{unique}+s+%2B+p", f"{unique}%20s%20%2B%20p", f"{unique}+s%20%2b+p"]

    def spelled(request: Request, value: str) -> Request:
        given = [part for part in request.query.split("&") if not part.startswith(name)]
        return replace(request, query="&".join([*given, f"{name}={value}"]))

    with service.clause("PARAM-10"):
        if operation is ASSIGN:
            service.call(spelled(assign_request(order), spellings[0]), CREATED)
            service.acquire(order)
            if name == "order_id":
                for spelling in spellings:
                    answer = service.send(spelled(assign_request(order), spelling))
                    service.check(answer.status == 400, "400, for an order that is known under this id")
            return
        service.assign(order)
        if operation is ACQUIRE:
            for spelling in spellings:
                answer = service.call(spelled(acquire_request(order.executor_id), spelling), ACQUIRED)
                service.check_is(answer, order)
        else:
            service.call(spelled(cancel_request(order.order_id), spellings[0]), "Successfully canceled")
            for spelling in spellings:
                service.call(spelled(cancel_request(order.order_id), spelling))


def form_of(order: Order) -> bytes:
    """Return an order as a form's body."""
    return encode(vars(order).items()).encode()


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
def test_a_body_is_ignored(service: Service, kind: str, in_chunks: bool) -> None:
    """Whatever is in a body, nothing is taken from it and nothing refused for it."""
    content_type, make = BODIES[kind]
    order, decoy = service.new_order(), service.new_order()

    def with_body(request: Request) -> Request:
        headers = (("Content-Type", content_type),) if content_type else ()
        if in_chunks:
            return replace(request, headers=(*headers, ("Transfer-Encoding", "chunked")), body=make(decoy))
        return replace(request, headers=headers, body=make(decoy))

    def call(request: Request, expected: str | None = None) -> Answer:
        return service.call(with_body(request), expected)

    service.assign(decoy)
    with service.clause("PARAM-11"):
        # Nothing is taken from the body in place of what is missing …
        for request in (
            *(Request(operation.method, operation.path) for operation in OPERATIONS),
            Request(ASSIGN.method, ASSIGN.path, encode([("order_id", order.order_id), ("zone_id", order.zone_id)])),
        ):
            call(request)
        # … or in place of what is there; and what comes next on the connection is answered too.
        call(assign_request(order), CREATED)
        service.check_is(call(acquire_request(order.executor_id), ACQUIRED), order)
        call(cancel_request(order.order_id), "Successfully canceled")
        service.acquire(decoy)


@pytest.mark.clause("PARAM-11")
@every_parameter
def test_nothing_is_taken_from_headers(service: Service, operation: Operation, name: str) -> None:
    """A header or a cookie with a parameter's name is none."""
    request = request_with(service, operation, {})
    title = "-".join(part.title() for part in name.split("_"))
    headers = ((f"X-{title}", "x"), (title, "x"), ("Cookie", f"{name}=x"))
    parts = [part for part in request.query.split("&") if not part.startswith(name)]
    with service.clause("PARAM-11"):
        service.call(replace(request, query="&".join(parts), headers=headers))


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
def test_unknown_parameters_are_ignored(service: Service, extra: str) -> None:
    """Parameters that an operation does not have make no difference, whatever is in them."""
    order = service.new_order()

    def around(request: Request) -> Request:
        return replace(request, query=f"{extra}&{request.query}&{extra}")

    with service.clause("PARAM-12"):
        service.call(around(assign_request(order)), CREATED)
        service.check_is(service.call(around(acquire_request(order.executor_id)), ACQUIRED), order)
        service.call(around(cancel_request(order.order_id)), "Successfully canceled")


@pytest.mark.clause("PARAM-12")
@every_parameter
@pytest.mark.parametrize("form", ["upper", "brackets", "space", "prefix"])
def test_names_that_look_alike_are_unknown(service: Service, operation: Operation, name: str, form: str) -> None:
    """A parameter goes by its exact name: another spelling is neither a second value nor the first."""
    other = {"upper": name.upper(), "brackets": f"{name}%5B%5D", "space": f"+{name}", "prefix": f"x{name}"}[form]
    request = request_with(service, operation, {})
    with service.clause("PARAM-12"):
        service.call(replace(request, query=f"{other}=x&{request.query}&{other}=y"))
        service.call(replace(request, query=request.query.replace(f"{name}=", f"{other}=")))


@pytest.mark.clause("PARAM-12")
def test_another_operation_s_parameters_are_unknown(service: Service) -> None:
    """Acquire does not look at an order_id, nor cancel at an executor_id, not even at an invalid one."""
    order, other = service.new_order(), service.new_order()
    service.assign(order)
    service.assign(other)
    with service.clause("PARAM-12"):
        for extra in (encode([("order_id", other.order_id), ("zone_id", other.zone_id)]), "order_id=%00&order_id="):
            request = acquire_request(order.executor_id)
            answer = service.call(replace(request, query=f"{extra}&{request.query}"), ACQUIRED)
            service.check_is(answer, order)
        request = cancel_request(order.order_id)
        extra = encode([("executor_id", other.executor_id)])
        service.call(replace(request, query=f"{extra}&{request.query}&zone_id=%FF"), "Successfully canceled")
        service.acquire(other)
