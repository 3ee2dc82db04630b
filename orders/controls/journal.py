"""The journal: the last requests of clients, and their answers."""

import json
from collections import deque
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

from orders.controls.faults import Fault
from orders.http.exchange import Request
from orders.http.responses import Response
from orders.lifecycle import utc_now
from orders.storage.models import rfc3339

MAX_REQUESTS = 1_000
MAX_BODY_BYTES = 1_000


class Outcome(StrEnum):
    """What happened to a request in the journal."""

    PENDING = "pending"
    ANSWERED = "answered"
    DROPPED = "dropped"
    ABANDONED = "abandoned"


@dataclass(slots=True, kw_only=True)
class RecordedRequest:
    """A request in the journal, with its answer if it has one.

    `target` is the path and the query as the client sent them. `parameters` are those of the query, decoded; if a name
    is repeated, the last value counts. The names of `headers` are in lower case.
    """

    number: int
    time: str
    operation: str | None
    method: str
    target: str
    parameters: dict[str, str]
    headers: dict[str, str]
    body: str
    fault: Fault | None = None
    outcome: Outcome = Outcome.PENDING
    status: int | None = None
    answer: Any = None
    duration_ms: float | None = None

    def end(self, response: Response | None, *, is_abandoned: bool, duration_s: float) -> None:
        """Record the response, or None if a fault dropped the connection, and whether the client had closed it."""
        self.duration_ms = round(duration_s * 1000, 3)
        if response is None:
            self.outcome = Outcome.DROPPED
        else:
            self.outcome = Outcome.ABANDONED if is_abandoned else Outcome.ANSWERED
            self.status, self.answer = response.status, json.loads(response.body)

    def as_json(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {**asdict(self), "fault": self.fault and self.fault.as_json()}


class Journal:
    """The last requests, in the order in which they arrived."""

    def __init__(self) -> None:
        self._requests: deque[RecordedRequest] = deque(maxlen=MAX_REQUESTS)
        self._count = 0

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
            target=f"{request.path}?{request.query}" if request.query else request.path,
            parameters=dict(parse_qsl(query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.body[:MAX_BODY_BYTES].decode("utf-8", "replace"),
        )
        self._requests.append(recorded)
        return recorded

    def find(
        self, operation: str | None = None, status: int | None = None, since: str | None = None
    ) -> list[RecordedRequest]:
        """Return copies of the requests that match. `since` is a time as RFC 3339 writes it."""
        earliest = "" if since is None else rfc3339(datetime.fromisoformat(since))
        return [
            replace(request)
            for request in self._requests
            if operation in (None, request.operation) and status in (None, request.status) and request.time >= earliest
        ]

    def clear(self) -> None:
        """Forget all requests, and number the next ones from 1."""
        self._requests.clear()
        self._count = 0
