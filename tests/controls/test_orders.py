"""`POST /_controls/orders`: stores orders in any state, all of them or none."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import httpx
import pytest

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, message, not_active
from tests.controls.client import ControlledClient

NEW = {"order_id": "order", "executor_id": "executor", "zone_id": "zone"}
EARLY, LATE = "2026-01-31T12:00:00.000000Z", "2026-01-31T12:30:00.000000Z"


def order(n: int, status: str, **fields: Any) -> dict[str, Any]:
    """Return a new order of the executor `executor`."""
    return {**NEW, "order_id": f"order-{n}", "execution_status": status, **fields}


def test_orders_are_stored_in_any_state(any_controls: ControlledClient) -> None:
    """They are stored with their times in UTC, and listed in the order in which they were given."""
    controls = any_controls
    added = controls.add_orders(
        order(1, "completed", assign_time="2026-01-31T13:00:00+01:00", acquire_time="2026-01-31T12:30:00Z"),
        order(2, "completed", assign_time=EARLY, acquire_time=None),
        order(3, "cancelled", assign_time=EARLY, acquire_time=EARLY),
        order(4, "acquired", acquire_time=LATE),
        order(5, "acquired", executor_id="other", assign_time=LATE),
        order(6, "assigned", executor_id="é\U0001f600"),
    )
    times = [(row["assign_time"], row["acquire_time"]) for row in added]
    assert times[:5] == [(EARLY, LATE), (EARLY, None), (EARLY, EARLY), (LATE, LATE), (LATE, LATE)]
    assert times[5][0] > LATE and times[5][1] is None
    assert controls.orders() == added


def test_the_service_treats_them_as_its_own(any_controls: ControlledClient) -> None:
    """They can be acquired, cancelled and replaced, and are known (D1 to D5)."""
    controls = any_controls
    controls.add_orders(order(1, "cancelled"), order(2, "acquired"), order(3, "assigned", executor_id="other"))
    stored = controls.orders(order_id="order-2")
    assert controls.acquire("executor").json() == {"message": ACQUIRED, "order_profile": stored[0]}
    assert message(controls.acquire("other")) == ACQUIRED
    assert message(controls.cancel("order-1")) == not_active("order-1")
    assert message(controls.assign("order-1", "executor")) == ALREADY_EXISTS
    assert message(controls.assign("order-4", "executor")) == CREATED
    assert message(controls.cancel("order-3")) == CANCELED
    assert message(controls.acquire("other")) == NO_ORDERS
    assert [row["execution_status"] for row in controls.orders()][:2] == ["cancelled", "completed"]


@pytest.mark.parametrize(
    ("new", "complaint"),
    [
        ([NEW], "the order_id 'order' is stored already"),
        ([{**NEW, "order_id": "2"}], "the executor_id 'executor' has a stored active order, and can have only one"),
    ],
)
def test_orders_that_break_a_rule_with_stored_ones_are_refused(
    any_controls: ControlledClient, new: list[dict[str, Any]], complaint: str
) -> None:
    """An `order_id` is stored once, and an executor has at most one active order. None of the orders is stored."""
    controls = any_controls
    controls.assign("order", "executor")
    harmless = {**NEW, "order_id": "1", "executor_id": "1"}
    response = controls.control("POST", "orders", json={"orders": [harmless, *new]})
    assert (response.status_code, message(response)) == (400, complaint)
    assert [row["order_id"] for row in controls.orders()] == ["order"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (NEW, "orders is missing; the body needs orders"),
        ({"orders": [NEW], "total": 1}, "unknown field 'total'; the body has orders"),
        ([], "the body must be a JSON object, not []"),
        ({"orders": []}, "orders must be a list of 1 to 1000, not []"),
        ({"orders": NEW}, "orders must be a list of 1 to 1000, not {"),
        ({"orders": [NEW, 5]}, "orders[1] must be a JSON object, not 5"),
        ({"orders": [{"order_id": "1"}]}, "executor_id is missing; orders[0] needs order_id, executor_id, zone_id"),
        (
            {"orders": [{**NEW, "x": 1}]},
            "unknown field 'x'; orders[0] has order_id, executor_id, zone_id, execution_st",
        ),
        ({"orders": [{**NEW, "order_id": ""}]}, "orders[0].order_id must be text of 1 to 255 characters, not ''"),
        ({"orders": [{**NEW, "zone_id": 5}]}, "orders[0].zone_id must be text of 1 to 255 characters, not 5"),
        ({"orders": [{**NEW, "zone_id": "\n"}]}, "orders[0].zone_id: control characters and surrogates are not"),
        ({"orders": [{**NEW, "zone_id": "\ud800"}]}, "orders[0].zone_id: control characters and surrogates are not"),
        (
            {"orders": [order(1, "done")]},
            "orders[0].execution_status must be one of assigned, acquired, completed, cancelled, not 'done'",
        ),
        ({"orders": [{**NEW, "assign_time": "now"}]}, "orders[0].assign_time must be a time with its offset, for exa"),
        ({"orders": [{**NEW, "assign_time": None}]}, "orders[0].assign_time must be a time with its offset, for exam"),
        ({"orders": [{**NEW, "acquire_time": 5}]}, "orders[0].acquire_time must be a time with its offset, for examp"),
        (
            {"orders": [order(1, "assigned", acquire_time=LATE)]},
            "orders[0].acquire_time must be left out: the order is not acquired yet",
        ),
        (
            {"orders": [order(1, "acquired", assign_time=LATE, acquire_time=EARLY)]},
            "orders[0].acquire_time must not be before assign_time",
        ),
        (
            {"orders": [order(1, "completed"), order(2, "completed"), order(1, "cancelled")]},
            "orders[2]: the order_id 'order-1' is given more than once",
        ),
        (
            {"orders": [order(1, "acquired"), order(2, "assigned")]},
            "orders[1]: the executor_id 'executor' can have only one active order",
        ),
    ],
)
def test_a_wrong_order_is_refused(controls: ControlledClient, body: Any, complaint: str) -> None:
    """The message says what is allowed, and nothing is stored."""
    response = controls.control("POST", "orders", content=json.dumps(body))
    assert response.status_code == 400 and message(response).startswith(complaint), response.text
    assert controls.orders() == []


def test_simultaneous_orders_keep_the_rules(
    any_controls: ControlledClient, in_thread: Callable[..., "Future[httpx.Response]"]
) -> None:
    """Of many clients that store or assign the same order at once, exactly one succeeds, and none gets a 500."""
    controls = any_controls
    for n in range(10):
        new = {**NEW, "order_id": f"order-{n}", "execution_status": "completed"}
        calls = [in_thread(controls.control, "POST", "orders", json={"orders": [new]}) for _ in range(4)]
        calls += [in_thread(controls.assign, f"order-{n}", f"executor-{m}") for m in range(4)]
        statuses = sorted(call.result(60).status_code for call in calls)
        assert statuses in ([200] + [400] * 7, [201] + [400] * 7), statuses
    assert len(controls.orders()) == 10
