"""The journal: the last requests of clients, and their answers."""

import json
from collections import deque
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from orders.controls.faults import Fault
from orders.http.exchange import Request
from orders.http.responses import Response
from orders.lifecycle import utc_now
from orders.storage.models import rfc3339

MAX_REQUESTS = 1_000
# Of all requests together. It takes the event loop about 40 ms to write them as JSON.
MAX_JOURNAL_BYTES = 4_000_000
# Of a target, a name, a value or a body.
MAX_TEXT_CHARACTERS = 1_000
CREDENTIALS = {"authorization", "cookie", "proxy-authorization"}


class Outcome(StrEnum):
    """What happened to a request in the journal."""

    PENDING = "pending"
    ANSWERED = "answered"
    DROPPED = "dropped"
    RESET = "reset"
    TRUNCATED = "truncated"
    ABANDONED = "abandoned"


@dataclass(slots=True, kw_only=True)
class RecordedRequest:
    """A request in the journal, with its answer if it has one.

    `target` is the path and the query as the client sent them. `parameters` are those of the query, decoded; if a name
    is repeated, the last value counts. The names of `headers` are in lower case. Long texts are cut. With `mistake`,
    the request itself is wrong: its path, its method, a parameter, or its `Prefer`.
    """

    number: int
    time: str
    operation: str | None
    method: str
    target: str
    parameters: dict[str, str]
    headers: dict[str, str]
    body: str
    mistake: bool = False
    fault: Fault | None = None
    outcome: Outcome = Outcome.PENDING
    status: int | None = None
    answer: Any = None
    duration_ms: float | None = None

    def end(self, outcome: Outcome, response: Response | None, *, duration_s: float) -> None:
        """Record what happened, and the response: half of one if it was truncated, None if there was none."""
        self.outcome = outcome
        self.duration_ms = round(duration_s * 1000, 3)
        if response is not None:
            self.status, self.answer = response.status, content_of(response)

    def __str__(self) -> str:
        """Return one line: the request, its outcome or answer, and why the answer is not the usual one."""
        parts = [f"{self.number}. {self.method} {self.target}:"]
        if self.outcome != Outcome.ANSWERED:
            parts.append(self.outcome)
        if self.status is not None:
            parts.append(f"{self.status} {json.dumps(self.answer, ensure_ascii=False)}")
        if self.fault is not None:
            parts.append(f"[fault: {self.fault.kind} {self.fault.when}]")
        if self.mistake:
            parts.append("[mistake]")
        return " ".join(parts)

    def size(self) -> int:
        """Return about how many bytes the request and its answer have as JSON."""
        texts = [self.target, self.body, *self.parameters, *self.parameters.values(), *self.headers]
        return 1_000 + sum(map(len, [*texts, *self.headers.values()]))

    def as_json(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {**asdict(self), "fault": self.fault and self.fault.as_json()}


class Journal:
    """The last requests, in the order in which they arrived."""

    def __init__(self) -> None:
        self._requests: deque[RecordedRequest] = deque()
        self._count = 0
        self._bytes = 0

    @property
    def forgotten(self) -> int:
        """The number of earlier requests that are no longer in the journal."""
        return self._count - len(self._requests)

    def add(self, request: Request, operation: str | None) -> RecordedRequest:
        """Record a request that has arrived. `operation` is its operationId, or None if it has none."""
        self._count += 1
        query = request.query.encode("latin-1").decode("utf-8", "replace")
        recorded = RecordedRequest(
            number=self._count,
            time=utc_now(),
            operation=operation,
            method=request.method,
            target=cut(f"{request.path}?{request.query}" if request.query else request.path),
            parameters={cut(name): cut(value) for name, value in parse_qsl(query, keep_blank_values=True)},
            headers={cut(name.lower()): cut(masked(name, value)) for name, value in request.headers.items()},
            body=cut(request.body.decode("utf-8", "replace")),
        )
        self._requests.append(recorded)
        self._bytes += recorded.size()
        while len(self._requests) > MAX_REQUESTS or self._bytes > MAX_JOURNAL_BYTES:
            self._bytes -= self._requests.popleft().size()
        return recorded

    def find(
        self,
        operation: str | None = None,
        outcome: str | None = None,
        status: int | None = None,
        since: str | None = None,
        after: int = 0,
        limit: int = MAX_REQUESTS,
    ) -> list[RecordedRequest]:
        """Return copies of the first `limit` requests that match.

        `since` is a time as RFC 3339 writes it. `after` is the number of a request that comes before those that match.
        """
        earliest = "" if since is None else rfc3339(datetime.fromisoformat(since))
        matching = (
            replace(request)
            for request in self._requests
            if operation in (None, request.operation)
            and outcome in (None, request.outcome)
            and status in (None, request.status)
            and request.time >= earliest
            and request.number > after
        )
        return list(islice(matching, limit))

    def clear(self) -> None:
        """Forget all requests, and number the next ones from 1."""
        self._requests.clear()
        self._count = 0
        self._bytes = 0


def content_of(response: Response) -> Any:
    """Return the JSON in a response, or its text if it is not JSON."""
    try:
        return json.loads(response.body)
    except ValueError:
        return response.body.decode("utf-8", "replace")


def cut(text: str) -> str:
    """Return a text, or the beginning of a long one and how many characters it has."""
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    return f"{text[:MAX_TEXT_CHARACTERS]}... ({len(text)} characters)"


def masked(name: str, value: str) -> str:
    """Return the value of a header. If it has credentials, only their scheme is left, for example `Bearer ***`."""
    if name.lower() not in CREDENTIALS:
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} ***" if space and "=" not in scheme else "***"
