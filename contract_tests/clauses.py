"""The clauses of the contract. An implementation is judged by each of them, and gets a verdict on each.

A clause is MUST if the API's document itself says it. It is SHOULD if only the decisions say it (D1 to D13, in
`openapi.yaml`), which settle what the document leaves open. It is MAY if only a standard of HTTP says it: some widely
used servers differ. What `openapi.yaml` adds to all of them is no clause, for example the answer to a stray `%`: a
correct implementation may differ.
"""

from dataclasses import dataclass
from enum import StrEnum

from contract_tests.suite.contract import (
    ACQUIRE,
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCEL,
    CANCELED,
    CREATED,
    MAX_LENGTH,
    METHOD_NOT_ALLOWED,
    MISSING,
    NO_ORDERS,
    NOT_FOUND,
    UNKNOWN_ERROR,
    Answer,
    invalid_start,
    not_active,
)


class Level(StrEnum):
    """How binding a clause is."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"

    def includes(self, other: "Level") -> bool:
        """Return whether a run at this level requires the clauses of a level: its own, or one that binds more."""
        levels = list(Level)
        return levels.index(other) <= levels.index(self)


@dataclass(frozen=True)
class Clause:
    """One statement about the service. It is true or false."""

    id: str
    level: Level
    source: str
    text: str
    # It can be checked only if the server gives occasion for it.
    conditional: bool = False
    # Any request can break it. So a failure of another clause says more about the mistake.
    general: bool = False


def _must(id: str, text: str, *, conditional: bool = False) -> Clause:
    return Clause(id, Level.MUST, "document", text, conditional)


def _should(id: str, source: str, text: str, *, general: bool = False) -> Clause:
    return Clause(id, Level.SHOULD, source, text, general=general)


def _quote(answer: Answer) -> str:
    return f"{answer.status} `{answer.message}`"


_BAD_PARAMETER = invalid_start(ASSIGN, "…")
_INVALID = f"{_BAD_PARAMETER.status} `{_BAD_PARAMETER.message}…`"

_ALL = [
    _must("ASSIGN-1", f"The answer to an assign of a new order is {_quote(CREATED)}."),
    _must("ASSIGN-2", f"If a parameter of assign is absent, the answer is {_quote(MISSING[ASSIGN])}."),
    _must(
        "ASSIGN-3",
        f"The answer to an assign of a known `order_id` is {_quote(ALREADY_EXISTS)}, for any executor and zone.",
    ),
    _must("ASSIGN-4", "The same assign sent again changes nothing: assign is idempotent."),
    _should("ASSIGN-5", "D3", "A refused assign leaves the known order as it was."),
    _should("ASSIGN-6", "D3", "A refused assign leaves the executor that it names as they were."),
    _should("ASSIGN-7", "D3", "An `order_id` stays known after its order is cancelled or completed."),
    _must("ACQUIRE-1", f"The answer to acquire is {_quote(ACQUIRED)} with the executor's order, as it was assigned."),
    _must("ACQUIRE-2", f"If `executor_id` is absent, the answer to acquire is {_quote(MISSING[ACQUIRE])}."),
    _must("ACQUIRE-3", f"If the executor has no active order, the answer to acquire is {_quote(NO_ORDERS)}."),
    _should("ACQUIRE-4", "D4", "Acquiring again returns the same bytes while the order is active."),
    _should(
        "ACQUIRE-5", "D6", "`order_profile` has the properties of the row with their values, no more and no fewer."
    ),
    _should("ACQUIRE-6", "D6", "`assigned_order_id` is a UUID that no other order has."),
    _should(
        "ACQUIRE-7",
        "D4, D6",
        "`assign_time` and `acquire_time` are the times of the assign and of the first acquire, in RFC 3339, UTC, `Z`.",
    ),
    _should("ACQUIRE-8", "D4", "All answers to acquire, also 400, have `Cache-Control: no-store`."),
    _should("ACQUIRE-9", "D4", "Answers to acquire have no `ETag`, and a conditional request never gets 304."),
    _must("CANCEL-1", f"The answer to a cancel of an active order is {_quote(CANCELED)}."),
    _must("CANCEL-2", f"If `order_id` is absent, the answer to cancel is {_quote(MISSING[CANCEL])}."),
    _must(
        "CANCEL-3",
        f"The answer to a cancel of a cancelled or unknown order is {_quote(not_active('…'))}.",
    ),
    _should("CANCEL-4", "D5", "An acquired order can be cancelled too."),
    _should("CANCEL-5", "D7", "The id in the answer to cancel is exactly the id in the request."),
    _should(
        "LIFE-1",
        "D2",
        "Assigning a new order to an executor completes their active order, acquired or not: it can no longer be "
        "cancelled, and they acquire the new one.",
    ),
    _must("LIFE-2", "A cancelled order is not handed out, and its executor can be assigned another."),
    _should("LIFE-3", "D1, D5", "A completed or cancelled order never becomes active again."),
    _should("LIFE-4", "D2", "An operation changes no other order and no other executor."),
    _should("LIFE-5", "D3, D8, D9", "A request with missing or invalid parameters changes nothing."),
    _should(
        "LIFE-6", "D1 to D6", "In random histories, each answer is the one that the lifecycle requires.", general=True
    ),
    _should("LIFE-7", "D3, D4", "Nothing expires: an order is the same at the end of the run as at its start."),
    _should("PARAM-1", "D8", "An empty parameter counts as missing."),
    _should("PARAM-2", "D8", "Missing parameters are reported before invalid ones."),
    _should("PARAM-3", "D7", f"Any text of 1 to {MAX_LENGTH} code points without control characters is accepted."),
    _should("PARAM-4", "D9", f"The answer to a parameter of more than {MAX_LENGTH} code points is {_INVALID}."),
    _should("PARAM-5", "D9", f"The answer to a parameter with a control character is {_INVALID}."),
    _should("PARAM-6", "D9", f"The answer to a parameter that is not UTF-8 is {_INVALID}."),
    _should("PARAM-7", "D9", f"The answer to a parameter given more than once is {_INVALID}."),
    _should("PARAM-8", "D9", "The message names the first invalid parameter in the document's order."),
    _should("PARAM-9", "D7", "Identifiers are opaque: kept exactly, and different if they differ in anything."),
    _should("PARAM-10", "D7", "`+` and `%20` are both a space."),
    _should("PARAM-11", "D10", "Parameters are read from the query string alone. A body of any kind is ignored."),
    _should("PARAM-12", "D10", "Unknown query parameters are ignored."),
    _must("WIRE-1", "Each answer of an operation is a JSON object, and its content type says so."),
    _should("WIRE-2", "D11", f"The answer to any other path is {_quote(NOT_FOUND)}, in JSON."),
    _should("WIRE-3", "D11", f"The answer to any other method is {_quote(METHOD_NOT_ALLOWED)}, in JSON, with `Allow`."),
    _should("WIRE-4", "D11", f"The answer to HEAD on acquire is {METHOD_NOT_ALLOWED.status}, and acquires nothing."),
    _should("WIRE-5", "D9", "Broken HTTP and huge URLs never succeed, and the service continues."),
    Clause(
        "WIRE-6",
        Level.MAY,
        "RFC 9112",
        "A request whose target is a whole URL is answered like the same request with the path alone.",
    ),
    _should("RACE-1", "D12", "Of simultaneous assigns of one `order_id`, exactly one says created."),
    _should("RACE-2", "D12", "Simultaneous assigns to one executor all succeed and leave one active order."),
    _should("RACE-3", "D12", "Of simultaneous cancels of one order, exactly one says canceled."),
    _should("RACE-4", "D4, D12", "Simultaneous acquires by one executor return the same bytes."),
    _should("RACE-5", "D5, D12", "A cancel that meets acquires succeeds, and the order is not handed out afterwards."),
    _should(
        "RACE-6", "D2, D12", "If a cancel meets an assign of the next order, one of them ends the order, never both."
    ),
    _should("RACE-7", "D12", "The answers to concurrent requests are as if they had come one after the other."),
    _must("RETRY-1", "An assign whose answer was lost can be sent again: it takes effect once."),
    _should("RETRY-2", "D4", "An acquire whose answer was lost can be sent again: it takes effect once."),
    _should("RETRY-3", "D5", "A cancel whose answer was lost can be sent again: it takes effect once."),
    _should("RETRY-4", "D3", "A request that is cut off within its first line has no effect."),
    _must("ERROR-1", f"An internal error is answered {_quote(UNKNOWN_ERROR)}, and nothing else.", conditional=True),
    _should(
        "ERROR-2",
        "D9, D12",
        "No request of this suite is answered with a 5xx, or left without an answer.",
        general=True,
    ),
    _should(
        "SCHEMA-1", "openapi.yaml", "Each answer to a generated request is one that the contract allows.", general=True
    ),
    _should(
        "SCHEMA-2",
        "openapi.yaml",
        "Each answer along the contract's links is one that the contract allows.",
        general=True,
    ),
    _should("SCHEMA-3", "openapi.yaml", "Each kind of answer to a valid request occurs.", general=True),
]

CLAUSES = {clause.id: clause for clause in _ALL}


def table() -> str:
    """Return the clauses as a table in Markdown, for README.md."""
    rows = [f"| {clause.id} | {clause.level} | {clause.source} | {clause.text} |" for clause in CLAUSES.values()]
    return "\n".join(["| clause | level | source | what it says |", "|---|---|---|---|", *rows])
