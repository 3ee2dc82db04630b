"""Checks of what a reader writes in an exercise. They print which checks pass, and fail no cell."""

import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

ATTEMPTS = 5

# A call of the operation, with what to do instead of waiting -> the answer, and whether an earlier attempt is in doubt.
Send = Callable[[], httpx.Response]
Sleep = Callable[[float], object]
Retry = Callable[[Send, Sleep], tuple[httpx.Response, bool]]


class GaveUp(Exception):
    """Every attempt failed."""


REFUSED = httpx.ConnectError("connection refused")
LOST = httpx.RemoteProtocolError("disconnected without a response")
LATE = httpx.ReadTimeout("timed out")

# What the attempts get, one after the other; what the retry must return; a sentence that says so.
CASES: Sequence[tuple[Sequence[int | httpx.TransportError], tuple[int, bool] | None, str]] = [
    ([200], (200, False), "A 200 is final."),
    ([400], (400, False), "A 400 is final."),
    ([500, 200], (200, True), "A 500 leaves doubt, so the request is sent again."),
    ([502, 200], (200, True), "So does a 502 of a gateway."),
    ([503, 504, 400], (400, True), "So do a 503 and a 504."),
    ([LOST, 400], (400, True), "A lost answer leaves doubt."),
    ([LATE, 400], (400, True), "A late answer leaves doubt."),
    ([REFUSED, 400], (400, False), "A refused connection is tried again, and leaves no doubt."),
    ([LOST, REFUSED, 400], (400, True), "A later refused connection does not end the doubt."),
    ([500] * ATTEMPTS, None, f"After {ATTEMPTS} attempts, the client gives up."),
]


def check_retry(retry: Retry, pause_s: Callable[[int], float]) -> None:
    """Print for each case whether `retry` does what is right. `pause_s` is the longest pause after an attempt."""
    passed = 0
    for outcomes, expected, sentence in CASES:
        got = _try(retry, outcomes, pause_s)
        wanted = f"GaveUp after {_count(ATTEMPTS)}" if expected is None else _result(*expected, len(outcomes))
        passed += got == wanted
        print(f"{'✓' if got == wanted else '✗'} {sentence}")
        if got != wanted:
            print(f"    attempts: {', '.join(map(_name, outcomes))}\n    expected: {wanted}\n    got:      {got}")
    print(f"\n{passed} of {len(CASES)} checks pass.")


def _try(retry: Retry, outcomes: Sequence[int | httpx.TransportError], pause_s: Callable[[int], float]) -> str:
    """Let a retry send a request whose attempts have these outcomes; return what it did."""
    sent = 0
    pauses: list[float] = []

    def send() -> httpx.Response:
        nonlocal sent
        sent += 1
        outcome = outcomes[sent - 1] if sent <= len(outcomes) else 200
        if isinstance(outcome, int):
            return httpx.Response(outcome)
        raise outcome

    try:
        answer, in_doubt = retry(send, pauses.append)
        result = _result(answer.status_code, in_doubt, sent)
    except GaveUp:
        result = f"GaveUp after {_count(sent)}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    allowed = [pause_s(attempt) for attempt in range(1, sent)]
    if len(pauses) != len(allowed) or any(not 0.5 * a <= p <= a for p, a in zip(pauses, allowed, strict=True)):
        result += f", with pauses of {pauses} s; the longest are {allowed} s"
    return result


def _result(status: int, in_doubt: bool, attempts: int) -> str:
    return f"{status}, {'in doubt' if in_doubt else 'not in doubt'}, after {_count(attempts)}"


def _count(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _name(outcome: int | httpx.TransportError) -> str:
    return str(outcome) if isinstance(outcome, int) else type(outcome).__name__


IMPORTS = """
import time
from collections.abc import Callable

import httpx
import pytest
from orders.testing import ReferenceServer
"""


def run_pytest(client: Callable[..., bool], *tests: Callable[..., None]) -> None:
    """Run tests of a client with pytest, and print what it prints."""
    code = "\n\n".join([IMPORTS, *(inspect.getsource(part) for part in (client, *tests))])
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-rN", "--color=no", "--maxfail=2"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_client.py").write_text(code, "utf-8")
        environment = {**os.environ, "COLUMNS": "80"}
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    print(ended.stdout.replace(f"{folder}{os.sep}", ""))
