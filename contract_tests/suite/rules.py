"""What the contract says about a single response, whatever happened before.

`expected_answer` reads a request as the contract does (D7 to D10). `judge` compares a response with that.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote_to_bytes
from uuid import UUID

from contract_tests.suite.contract import (
    ACQUIRE,
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCEL,
    CANCELED,
    CREATED,
    MAX_LENGTH,
    MISSING,
    NO_ORDERS,
    NOT_ACTIVE_END,
    NOT_ACTIVE_START,
    OPERATIONS,
    PROFILE,
    Answer,
    Operation,
    invalid_start,
    not_active,
)
from contract_tests.suite.transport import Request, Response

CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")

# The clause of a wrong answer to a call that has several right ones.
_CLAUSE_OF_ANY = {ASSIGN: "ASSIGN-1", ACQUIRE: "ACQUIRE-3", CANCEL: "CANCEL-3"}
CLAUSE_OF_MISSING = {ASSIGN: "ASSIGN-2", ACQUIRE: "ACQUIRE-2", CANCEL: "CANCEL-2"}
_CLAUSE_OF_ANSWER: dict[tuple[int, str], str] = {
    CREATED: "ASSIGN-1",
    ALREADY_EXISTS: "ASSIGN-3",
    ACQUIRED: "ACQUIRE-1",
    NO_ORDERS: "ACQUIRE-3",
    CANCELED: "CANCEL-1",
}


class ExpectedAnswer(NamedTuple):
    """What a request's parameters decide about its answer."""

    # `open`: the document does not say.
    kind: Literal["valid", "missing", "invalid", "open"]
    # The parameters if they are valid; else empty.
    values: dict[str, str]
    # The clause that requires the answer to missing or invalid parameters.
    clause: str = ""
    # The invalid parameter that the message must name.
    parameter: str = ""


class Finding(NamedTuple):
    """A clause that a response breaks, and what was expected instead."""

    clause: str
    expected: str
    # The part of the response that is wrong; empty for the whole response.
    got: str = ""
    # An earlier request that had a wrong effect may be the cause.
    has_history: bool = False


def operation_of(request: Request) -> Operation | None:
    """Return the operation that a request calls; None if it has another path or method."""
    for operation in OPERATIONS:
        if (request.method, request.path) == (operation.method, operation.path):
            return operation
    return None


# The search for an order of concurrent requests asks for the same requests again and again.
@lru_cache(maxsize=1000)
def expected_answer(operation: Operation, query: str) -> ExpectedAnswer:
    """Return what a query string decides about the answer to an operation (D7 to D9)."""
    given: dict[str, list[bytes]] = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            given.setdefault(_decode(name).decode(errors="replace"), []).append(_decode(value))
    parameters = {name: given.get(name, []) for name in operation.parameters}
    invalid = [(name, clause) for name, values in parameters.items() if (clause := _clause_of_invalid(values))]
    # The document leaves two cases open: a `%` that starts no escape, and an empty one among a parameter's values.
    stray_percent = re.search("%(?![0-9A-Fa-f]{2})", query)
    if stray_percent or any(len(values) > 1 and b"" in values for values in parameters.values()):
        return ExpectedAnswer("open", {})
    if not all(any(values) for values in parameters.values()):
        absent = not all(parameters.values())
        clause = "PARAM-2" if invalid else CLAUSE_OF_MISSING[operation] if absent else "PARAM-1"
        return ExpectedAnswer("missing", {}, clause)
    if invalid:
        name, clause = invalid[0]
        return ExpectedAnswer("invalid", {}, clause, name)
    return ExpectedAnswer("valid", {name: values[0].decode() for name, values in parameters.items()})


def _decode(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))


def _clause_of_invalid(values: list[bytes]) -> str:
    """Return the clause that makes a parameter's values invalid; empty if they are valid or missing."""
    if len(values) > 1 and any(values):
        return "PARAM-7"
    if not values:
        return ""
    try:
        text = values[0].decode()
    except UnicodeDecodeError:
        return "PARAM-6"
    if len(text) > MAX_LENGTH:
        return "PARAM-4"
    return "PARAM-5" if CONTROL_CHARACTER.search(text) else ""


def clause_of(answer: tuple[int, str]) -> str:
    """Return the clause that says when an answer is due; empty if no valid request gets it."""
    return _CLAUSE_OF_ANSWER.get(answer, "CANCEL-3" if answer[1].endswith(NOT_ACTIVE_END) else "")


def says_the_words(clause: str, operation: Operation, answer: tuple[int, str]) -> bool:
    """Return whether a clause says the words of an answer of an operation."""
    return clause == (CLAUSE_OF_MISSING[operation] if answer == MISSING[operation] else clause_of(answer))


def is_not_active(response: Response) -> bool:
    """Return whether a response is that to a cancel without an active order, for any id or for none."""
    status, start = not_active("")[0], NOT_ACTIVE_START.rstrip()
    message = response.message
    return response.status == status and message.startswith(start) and message.endswith(NOT_ACTIVE_END.lstrip())


def judge(request: Request, response: Response, expected: Answer | None = None) -> tuple[str, list[Finding]]:
    """Compare the response to a call with what the contract says.

    `expected` is the answer to the call if its parameters are valid. None allows all of the operation's answers.
    Returns what was expected in place of the status and the message, or nothing if they are right, and the side
    findings: all else that is wrong.
    """
    operation = operation_of(request)
    assert operation is not None, request
    by_parameters = expected_answer(operation, request.query)
    # An answer with another status is wrong anyhow. Whatever else is wrong with it has the same cause.
    side_findings = list(wrong_form(response)) if response.status in operation.regular_statuses else []
    wrong = ""
    match by_parameters.kind:
        case "missing":
            if response.answer != MISSING[operation]:
                wrong = str(MISSING[operation])
        case "invalid":
            wrong = _wrong_refusal(operation, response, by_parameters.parameter)
        case "valid":
            wrong = _wrong_answer(operation, response, by_parameters.values, expected)
        case "open":
            if response.status not in operation.regular_statuses:
                wrong = " or ".join(map(str, operation.regular_statuses))
    if not wrong:
        side_findings += _side_findings(operation, response, by_parameters)
    return wrong, side_findings


def wrong_form(response: Response) -> Iterator[Finding]:
    """Yield what is wrong with a response if it is not a JSON object, or does not say so."""
    if response.media_type != "application/json":
        yield Finding("WIRE-1", "a Content-Type of application/json")
    elif response.json is None:
        yield Finding("WIRE-1", "a body that is one JSON object, in UTF-8, each key once")


def _wrong_refusal(operation: Operation, response: Response, parameter: str) -> str:
    """Return what was expected instead of a response to an invalid parameter; empty if the response is right."""
    status, start = invalid_start(operation, parameter)
    if response.status == status and response.message.startswith(start) and response.message != start:
        return ""
    return f'{status} {{"message": "{start}…"}} with what is wrong after the colon'


def valid_answers(operation: Operation, values: dict[str, str]) -> tuple[Answer, ...]:
    """Return the answers that a call with valid parameters can get."""
    if operation is ASSIGN:
        return CREATED, ALREADY_EXISTS
    if operation is ACQUIRE:
        return ACQUIRED, NO_ORDERS
    return CANCELED, not_active(values["order_id"])


def _wrong_answer(operation: Operation, response: Response, values: dict[str, str], expected: Answer | None) -> str:
    """Return what was expected instead of a response to a valid call; empty if the response is right."""
    possible = valid_answers(operation, values)
    allowed = possible if expected is None else (expected,)
    # Whether the id in the message is right is CANCEL-5's matter.
    is_about_an_id = operation is CANCEL and is_not_active(response)
    if (not_active(values["order_id"]) if is_about_an_id else response.answer) in allowed:
        return ""
    return " or ".join(map(str, allowed))


def _side_findings(operation: Operation, response: Response, by_parameters: ExpectedAnswer) -> Iterator[Finding]:
    """Yield what is wrong with a response whose status and message are right."""
    body = response.json or {}
    keys = {"message", "order_profile"} if response.answer == ACQUIRED else {"message"}
    if body and set(body) != keys:
        clause = by_parameters.clause or clause_of(response.answer) or _CLAUSE_OF_ANY[operation]
        yield Finding(clause, f"an object with {' and '.join(sorted(keys))}, and nothing else")
    if by_parameters.kind == "valid" and operation is CANCEL and is_not_active(response):
        _, message = not_active(by_parameters.values["order_id"])
        if response.message != message:
            yield Finding("CANCEL-5", f'{{"message": "{message}"}}')
    if operation is ACQUIRE:
        control, tag = response.header("Cache-Control"), response.header("ETag")
        if "no-store" not in {part.strip().lower() for part in (control or "").split(",")}:
            got = "no Cache-Control" if control is None else f"Cache-Control: {control}"
            yield Finding("ACQUIRE-8", "Cache-Control: no-store", got)
        if tag is not None:
            yield Finding("ACQUIRE-9", "no ETag", f"ETag: {tag}")
    if response.answer == ACQUIRED and "order_profile" in body:
        if isinstance(body["order_profile"], dict):
            yield from _wrong_in_profile(response, by_parameters.values.get("executor_id"))
        else:
            yield Finding("ACQUIRE-1", "an order_profile that is an object")


def _wrong_in_profile(response: Response, executor_id: str | None) -> Iterator[Finding]:
    profile = response.profile
    if set(profile) != set(PROFILE):
        expected = f"an order_profile with {', '.join(PROFILE)}, and nothing else"
        yield Finding("ACQUIRE-5", expected, f"an order_profile with {', '.join(profile)}")
    for name, schema in PROFILE.items():
        if name not in profile:
            continue
        value = profile[name]
        match schema:
            case {"format": "uuid"}:
                clause, kind, is_right = "ACQUIRE-6", "a UUID", _is_uuid(value)
            case {"format": "date-time"}:
                clause, kind, is_right = "ACQUIRE-7", "a time in RFC 3339, in UTC, with Z", _is_time(value)
            case {"enum": [*statuses]}:
                clause, kind, is_right = "ACQUIRE-5", " or ".join(statuses), value in statuses
            case _:
                clause, kind, is_right = "ACQUIRE-5", "text", isinstance(value, str) and value != ""
        if not is_right:
            got = f'"{name}": {json.dumps(value)}'
            yield Finding(clause, f"{name} in the order_profile to be {kind}", got, has_history=True)
    times: list[Any] = [profile.get(name) for name in ("assign_time", "acquire_time")]
    if all(map(_is_time, times)) and parse_time(times[1]) < parse_time(times[0]):
        got = f"an acquire_time of {times[1]} and an assign_time of {times[0]}"
        yield Finding("ACQUIRE-7", "an acquire_time that is not before the assign_time", got, has_history=True)
    if executor_id is not None and profile.get("executor_id", executor_id) != executor_id:
        clause = "ACQUIRE-1" if is_plain(executor_id) else "PARAM-9"
        got = f'"executor_id": {json.dumps(profile["executor_id"])}'
        yield Finding(clause, f"an order of the executor who asks, {executor_id!r}", got, has_history=True)


def is_plain(value: str) -> bool:
    """Return whether an identifier is one that no program refuses or changes, as the suite makes them by itself."""
    return re.fullmatch(r"[a-z_]+-[0-9a-f]{8}-\d+(-end)?|zone(-\d)?", value) is not None


def _is_uuid(value: object) -> bool:
    """Return whether a value is a UUID in the form of RFC 9562 §4."""
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(parse_time(value))
    except ValueError:
        return False


def parse_time(text: str) -> datetime:
    """Return a time of an order profile (D6). Raises ValueError unless it is RFC 3339, in UTC, with `Z`."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text, re.ASCII):
        raise ValueError(f"{text!r} is not RFC 3339 in UTC with Z")
    whole, _, fraction = text[:-1].partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")
