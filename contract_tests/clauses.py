"""The clauses of the contract: what an implementation is held to, one verdict each.

A clause is MUST where the API's document itself says it, SHOULD where only its decisions (D1 to D13, in
`openapi.yaml`) do. What the contract adds to both, such as the answer to a stray `%`, is no clause: a correct
implementation may differ.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How binding a clause is."""

    MUST = "MUST"
    SHOULD = "SHOULD"


@dataclass(frozen=True)
class Clause:
    """One statement about the service that is true or false."""

    id: str
    level: Level
    source: str
    text: str
    # It is checked only if the server gives occasion for it.
    conditional: bool = False


_MUST, _SHOULD, _DOCUMENT = Level.MUST, Level.SHOULD, "document"

_ALL = [
    Clause("ASSIGN-1", _MUST, _DOCUMENT, "Assigning a new order is answered 200 `Successfully created`."),
    Clause("ASSIGN-2", _MUST, _DOCUMENT, "If a parameter is absent, 400 `Missing parameters, …` lists all three."),
    Clause(
        "ASSIGN-3",
        _MUST,
        _DOCUMENT,
        "Assigning a known `order_id` is answered 400 `… already exists`, whichever executor and zone it names.",
    ),
    Clause("ASSIGN-4", _MUST, _DOCUMENT, "The same assign sent again changes nothing: it is idempotent."),
    Clause("ASSIGN-5", _SHOULD, "D3", "A refused assign leaves the known order as it was."),
    Clause("ASSIGN-6", _SHOULD, "D3", "A refused assign leaves the executor that it names as they were."),
    Clause("ASSIGN-7", _SHOULD, "D3", "An `order_id` stays known after its order is cancelled or completed."),
    Clause(
        "ACQUIRE-1",
        _MUST,
        _DOCUMENT,
        "Acquire is answered 200 `Successfully acquired` with the executor's order, as it was assigned.",
    ),
    Clause("ACQUIRE-2", _MUST, _DOCUMENT, "Without `executor_id`, acquire is answered 400 `Missing parameters, …`."),
    Clause(
        "ACQUIRE-3",
        _MUST,
        _DOCUMENT,
        "An executor without an active order is answered 200 `There are no orders assigned to you`.",
    ),
    Clause("ACQUIRE-4", _SHOULD, "D4", "Acquiring again returns the same bytes while the order is active."),
    Clause("ACQUIRE-5", _SHOULD, "D6", "`order_profile` has the row's seven properties, no more and no fewer."),
    Clause("ACQUIRE-6", _SHOULD, "D6", "`assigned_order_id` is a UUID that no other order has."),
    Clause(
        "ACQUIRE-7",
        _SHOULD,
        "D4, D6",
        "`assign_time` and `acquire_time` are the times of the assign and of the first acquire, in RFC 3339, UTC, `Z`.",
    ),
    Clause("ACQUIRE-8", _SHOULD, "D4", "Acquire's answers carry `Cache-Control: no-store`."),
    Clause("ACQUIRE-9", _SHOULD, "D4", "Acquire's answers have no `ETag`, and a conditional request gets no 304."),
    Clause("CANCEL-1", _MUST, _DOCUMENT, "Cancelling an active order is answered 200 `Successfully canceled`."),
    Clause("CANCEL-2", _MUST, _DOCUMENT, "Without `order_id`, cancel is answered 400 `Missing parameters, …`."),
    Clause(
        "CANCEL-3",
        _MUST,
        _DOCUMENT,
        "Cancelling an order that is cancelled, completed or unknown is answered 200 `… does not exist or has already "
        "been canceled`.",
    ),
    Clause("CANCEL-4", _SHOULD, "D5", "An order that was acquired can be cancelled too."),
    Clause("CANCEL-5", _SHOULD, "D7", "The id in cancel's answer is exactly the id asked for."),
    Clause(
        "LIFE-1",
        _SHOULD,
        "D2",
        "Assigning an executor a new order completes the active one, acquired or not; the new one is then acquired.",
    ),
    Clause("LIFE-2", _MUST, _DOCUMENT, "A cancelled order is not handed out; its executor can be assigned another."),
    Clause("LIFE-3", _SHOULD, "D1, D5", "A completed or cancelled order never becomes active again."),
    Clause("LIFE-4", _SHOULD, "D2", "An operation changes no order and no executor but its own."),
    Clause("LIFE-5", _SHOULD, "D3, D8, D9", "A request that is refused for its parameters changes nothing."),
    Clause("LIFE-6", _SHOULD, "D1 to D6", "In random histories every answer is the one that the lifecycle gives."),
    Clause("LIFE-7", _SHOULD, "D3, D4", "Nothing expires: an order is the same at the end of the run as at its start."),
    Clause("PARAM-1", _SHOULD, "D8", "An empty parameter is a missing one."),
    Clause("PARAM-2", _SHOULD, "D8", "Missing is reported before invalid."),
    Clause("PARAM-3", _SHOULD, "D7", "Every text of 1 to 255 code points without control characters is accepted."),
    Clause("PARAM-4", _SHOULD, "D9", "More than 255 code points are answered 400 `Invalid parameter …`."),
    Clause("PARAM-5", _SHOULD, "D9", "Control characters are answered 400 `Invalid parameter …`."),
    Clause("PARAM-6", _SHOULD, "D9", "What is not UTF-8 is answered 400 `Invalid parameter …`."),
    Clause("PARAM-7", _SHOULD, "D9", "A parameter given more than once is answered 400 `Invalid parameter …`."),
    Clause("PARAM-8", _SHOULD, "D9", "`Invalid parameter …` names the first invalid one in the document's order."),
    Clause("PARAM-9", _SHOULD, "D7", "Identifiers are opaque: kept exactly, and different if they differ in anything."),
    Clause("PARAM-10", _SHOULD, "D7", "`+` and `%20` are both a space."),
    Clause("PARAM-11", _SHOULD, "D10", "Parameters come from the query string alone; a body of any kind is ignored."),
    Clause("PARAM-12", _SHOULD, "D10", "Unknown query parameters are ignored."),
    Clause("WIRE-1", _MUST, _DOCUMENT, "The operations answer in JSON: an object, and a content type that says so."),
    Clause("WIRE-2", _SHOULD, "D11", "Any other path is answered 404 `Not found`, in JSON."),
    Clause("WIRE-3", _SHOULD, "D11", "Any other method is answered 405 `Method not allowed`, in JSON, with `Allow`."),
    Clause("WIRE-4", _SHOULD, "D11", "HEAD on acquire is answered 405 and acquires nothing."),
    Clause("WIRE-5", _SHOULD, "D9", "Broken HTTP and huge URLs succeed in nothing, and the service goes on."),
    Clause("RACE-1", _SHOULD, "D12", "Of simultaneous assigns of one `order_id` exactly one says created."),
    Clause("RACE-2", _SHOULD, "D12", "Simultaneous assigns to one executor all succeed and leave one active order."),
    Clause("RACE-3", _SHOULD, "D12", "Of simultaneous cancels of one order exactly one says canceled."),
    Clause("RACE-4", _SHOULD, "D4, D12", "Simultaneous acquires by one executor return the same bytes."),
    Clause("RACE-5", _SHOULD, "D5, D12", "A cancel that meets acquires succeeds; the order is not seen afterwards."),
    Clause("RACE-6", _SHOULD, "D2, D12", "Of a cancel and a reassign that meet, either ends the order, never both."),
    Clause(
        "RACE-7",
        _SHOULD,
        "D12",
        "The answers to concurrent requests are those of one order of the requests, one after the other.",
    ),
    Clause("RETRY-1", _MUST, _DOCUMENT, "An assign whose answer was lost can be repeated: it takes effect once."),
    Clause("RETRY-2", _SHOULD, "D4", "An acquire whose answer was lost can be repeated: it takes effect once."),
    Clause("RETRY-3", _SHOULD, "D5", "A cancel whose answer was lost can be repeated: it takes effect once."),
    Clause("RETRY-4", _SHOULD, "D3", "A request that was cut off within its first line has no effect."),
    Clause("ERROR-1", _MUST, _DOCUMENT, "A 500 is `Unknown error` and tells nothing else.", conditional=True),
    Clause(
        "ERROR-2", _SHOULD, "D9, D12", "No request of this suite is answered with a 5xx, or left without an answer."
    ),
    Clause("SCHEMA-1", _SHOULD, "openapi.yaml", "Every answer to a generated request is one that the contract allows."),
    Clause("SCHEMA-2", _SHOULD, "openapi.yaml", "Every answer along the contract's links is one that it allows."),
    Clause("SCHEMA-3", _SHOULD, "openapi.yaml", "Every kind of answer to a valid request is given to somebody."),
]

CLAUSES = {clause.id: clause for clause in _ALL}


def table() -> str:
    """Return the clauses as a table in Markdown: the one in README.md."""
    rows = [f"| {clause.id} | {clause.level} | {clause.source} | {clause.text} |" for clause in CLAUSES.values()]
    return "\n".join(["| clause | level | source | what it says |", "|---|---|---|---|", *rows])
