"""Internal errors in the log: the first of a kind has its traceback, the others are counted."""

import asyncio
import logging

import pytest

from orders.http import errors
from orders.http.errors import ErrorLog


def fail(error: Exception) -> Exception:
    """Return an error that was raised."""
    try:
        raise error
    except Exception as raised:
        return raised


def test_errors_of_one_kind_are_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of each kind has its traceback in the log. All of the kind have its id. The log says how many came."""
    monkeypatch.setattr(errors, "COUNT_INTERVAL_S", 0.01)

    async def scenario() -> tuple[list[str], str, str]:
        log = ErrorLog()
        ids = [log.add(fail(ValueError(f"broken {n}")), f"GET /{n}") for n in range(5)]
        other = log.add(fail(ValueError("lost")), "GET /other")
        while "4 more like it" not in caplog.text or log._ids:
            await asyncio.sleep(0.01)
        return ids, other, log.add(fail(ValueError("broken 5")), "GET /later")

    with caplog.at_level(logging.ERROR, logger="orders"):
        ids, other, later = asyncio.run(scenario())
    assert len(set(ids)) == 1 and len({ids[0], other, later}) == 3
    assert caplog.text.count("Traceback") == 3, caplog.text
    assert f"internal error {ids[0]}: GET /0" in caplog.text and "GET /1" not in caplog.text
    assert f"internal error {ids[0]}: 4 more like it" in caplog.text
