"""The check of a history: what is right passes, and each kind of mistake is found."""

import json
from collections.abc import Sequence

import pytest

from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import (
    ACQUIRED,
    ALREADY_EXISTS,
    CANCELED,
    CREATED,
    NO_ORDERS,
    UNKNOWN_ERROR,
    Answer,
    not_active,
)
from contract_tests.suite.transport import Request, Response, Step
from tests.chaos.history import History, Row, find_problem, first_unexplained

ORDER = Order("order", "executor", "zone")
ASSIGN, ACQUIRE, CANCEL = assign_request(ORDER), acquire_request("executor"), cancel_request("order")
ROW: Row = {
    "assigned_order_id": "01a21485-4a3d-7218-a7b9-9cc97a7608f3",
    "order_id": "order",
    "executor_id": "executor",
    "zone_id": "zone",
    "execution_status": "acquired",
    "assign_time": "2026-01-31T12:00:00.000000Z",
    "acquire_time": "2026-01-31T12:00:01.000000Z",
}
HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


def history(*calls: tuple[Request, Answer | None]) -> list[Step]:
    """Return steps, one after the other. An answer of None is missing; an acquired order is that of ROW."""
    history = History("name")
    for number, (request, answer) in enumerate(calls):
        profile = {"order_profile": ROW} if answer == ACQUIRED else {}
        body = json.dumps({"message": answer and answer.message, **profile}).encode()
        response = Response(answer.status, HEADERS, body) if answer else None
        history.add(Step(request, response, "", number, number + 0.5))
    return history.steps


RIGHT = [(ASSIGN, CREATED), (ACQUIRE, ACQUIRED)]


@pytest.mark.parametrize(
    ("steps", "rows"),
    [
        (history(*RIGHT), [ROW]),
        (history(*RIGHT, (CANCEL, CANCELED), (ACQUIRE, NO_ORDERS)), [ROW | {"execution_status": "cancelled"}]),
        (history((ASSIGN, None)), [ROW]),
        (history((ASSIGN, UNKNOWN_ERROR)), [ROW]),
        (history((ASSIGN, UNKNOWN_ERROR)), []),
        (history(*RIGHT, (CANCEL, None)), [ROW | {"execution_status": "cancelled"}]),
    ],
)
def test_a_right_history_has_no_problem(steps: Sequence[Step], rows: Sequence[Row]) -> None:
    """A request without an answer, or with a 500, may have taken effect or not."""
    assert find_problem(steps, rows) == ""


@pytest.mark.parametrize(
    ("steps", "rows", "problem"),
    [
        (history(*RIGHT), [], "is not stored"),
        (history(*RIGHT), [ROW | {"zone_id": "other"}], "has {'zone_id': 'other'}"),
        (history(*RIGHT), [ROW | {"acquire_time": None}], "has {'acquire_time': None}"),
        (history(*RIGHT, (CANCEL, CANCELED)), [ROW], "has {'execution_status': 'acquired'}"),
        (history(*RIGHT), [ROW | {"execution_status": "cancelled"}], "no request has cancelled"),
        (history(*RIGHT), [ROW | {"execution_status": "completed"}], "no order of the requests"),
        (history(*RIGHT), [ROW, ROW | {"order_id": "another"}], "no order of the requests"),
        (history(*RIGHT, (ASSIGN, CREATED)), [ROW], "no order of the requests"),
        (history((ASSIGN, ALREADY_EXISTS)), [ROW], "no order of the requests"),
        (history((ASSIGN, Answer(400, "Unknown error"))), [], "expected"),
        (history((CANCEL, not_active("another"))), [], "expected"),
    ],
)
def test_a_wrong_history_has_a_problem(steps: Sequence[Step], rows: Sequence[Row], problem: str) -> None:
    """A lost order, a changed row, a wrong answer, and answers that no order of the requests explains are found."""
    found = find_problem(steps, rows)
    assert found and problem in found, found


def test_the_first_unexplained_answer_is_named() -> None:
    """The answers before it are explained, also by requests that are answered later."""
    steps = history((ASSIGN, CREATED), (ACQUIRE, NO_ORDERS), (ACQUIRE, ACQUIRED))
    assert first_unexplained(steps) == steps[1]
    assert first_unexplained(steps[:1] + steps[2:]) is None
