"""Acquire: the order, no order, the profile, its times, and that it can be repeated (ACQUIRE)."""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from contract_tests.suite.calls import acquire_request, request_to
from contract_tests.suite.contract import ACQUIRE, PROFILE
from contract_tests.suite.rules import parse_time
from contract_tests.suite.scenario import CONNECTIONS, Scenario
from contract_tests.suite.transport import Response, query_string
from contract_tests.suite.waiting import COARSEST_CLOCK_S, LEAST_S, PAUSE_S, WaitingOrders

# The clock of a service's `Date` header and that of its orders may differ by this much.
CLOCK_TOLERANCE = timedelta(minutes=5)


@pytest.mark.clause("ACQUIRE-1")
def test_the_order_is_handed_out(scenario: Scenario) -> None:
    """Each executor gets the order that was assigned to them, with its zone."""
    orders = [scenario.new_order() for _ in range(3)]
    for order in orders:
        scenario.assign(order)
    for order in reversed(orders):
        scenario.acquire(order)


@pytest.mark.clause("ACQUIRE-1")
def test_an_order_is_handed_out_to_who_had_nothing(scenario: Scenario) -> None:
    """An executor who was told that there are no orders gets the next one at once."""
    order = scenario.new_order()
    with scenario.preparation():
        scenario.acquire_nothing(order.executor_id)
        scenario.assign(order)
    scenario.acquire(order)


@pytest.mark.clause("ACQUIRE-1")
def test_the_order_is_handed_out_over_any_connection(scenario: Scenario) -> None:
    """The executor gets the order, whichever process of the service takes the connection."""
    # Acquiring again is ACQUIRE-4's matter.
    for _ in range(CONNECTIONS):
        order = scenario.prepare()
        scenario.elsewhere().acquire(order)


@pytest.mark.clause("ACQUIRE-2")
@pytest.mark.parametrize("given", [[], ["order_id"], ["order_id", "zone_id"]], ids=["nothing", "order_id", "others"])
def test_an_absent_executor_is_reported(scenario: Scenario, given: list[str]) -> None:
    """Without executor_id, nothing is acquired, even if an order is named."""
    order = scenario.prepare()
    query = query_string((name, getattr(order, name)) for name in given)
    scenario.call(request_to(ACQUIRE, query))


@pytest.mark.clause("ACQUIRE-3")
def test_an_executor_who_never_had_an_order_gets_none(scenario: Scenario) -> None:
    """A new executor is told that there are no orders, however often they ask, and whatever others have."""
    scenario.prepare()
    executor_id = scenario.new_id("executor")
    for _ in range(3):
        scenario.acquire_nothing(executor_id)


@pytest.mark.clause("ACQUIRE-4")
def test_acquiring_again_returns_the_same_bytes(scenario: Scenario) -> None:
    """At once, after a while, after other calls, and over another connection, the bytes are the same."""
    order, other = scenario.prepare(), scenario.new_order()
    with scenario.preparation():
        first = scenario.acquire(order)
    expected = "the bytes of the first acquire"
    for _ in range(3):
        scenario.check_same(scenario.acquire(order), first, expected)
    scenario.assign(other)
    scenario.cancel(other)
    scenario.acquire(scenario.prepare())
    scenario.check_same(scenario.acquire(order), first, expected)
    time.sleep(COARSEST_CLOCK_S + 0.1)
    scenario.check_same(scenario.acquire(order), first, expected)
    elsewhere = scenario.elsewhere()
    for _ in range(4):
        elsewhere.check_same(elsewhere.acquire(order), first, expected)


@pytest.mark.clause("ACQUIRE-5")
def test_the_profile_has_all_properties(scenario: Scenario) -> None:
    """The profile has the status `acquired` from the first answer on, and the parameters of the assign."""
    order = scenario.prepare()
    profile = scenario.acquire(order).profile
    (status,) = PROFILE["execution_status"]["enum"]
    expected = {"execution_status": status} | vars(order)
    for name, value in expected.items():
        scenario.check(profile.get(name) == value, f'"{name}": "{value}"', f'"{name}": {profile.get(name)!r}')


@pytest.mark.clause("ACQUIRE-6")
def test_each_order_has_its_own_uuid(scenario: Scenario) -> None:
    """The orders of one executor and of several have different ids, which the service itself made."""
    first = scenario.new_order()
    seen: set[str] = set()
    for order in (first, scenario.new_order(first.executor_id), scenario.new_order(), scenario.new_order()):
        scenario.assign(order)
        own = scenario.read(scenario.acquire(order), "assigned_order_id")
        scenario.check(own not in seen, "an assigned_order_id that no other order has")
        scenario.check(own not in vars(order).values(), "an assigned_order_id that the service made")
        seen.add(own)


@pytest.mark.clause("ACQUIRE-7")
def test_the_assign_time_is_near_the_server_s_time(scenario: Scenario) -> None:
    """An order that is acquired at once was assigned just now, by the server's own clock."""
    order = scenario.new_order()
    created = scenario.assign(order)
    assigned, acquired = times(scenario, scenario.acquire(order))
    now = server_time(created)
    got = f"an assign_time of {assigned}"
    scenario.check(
        abs(assigned - now) < CLOCK_TOLERANCE, f"an assign_time near {now}, when the order was assigned", got
    )
    between = (acquired - assigned).total_seconds()
    expected = "an acquire_time just after the assign_time"
    scenario.check(0 <= between < PAUSE_S, expected, f"an acquire_time {between} s after it")


@pytest.mark.clause("ACQUIRE-7")
def test_the_times_differ_by_as_long_as_the_client_waited(scenario: Scenario, waiting_orders: WaitingOrders) -> None:
    """The times of an order are those of its assign and its first acquire, whatever others do in between."""
    order = waiting_orders.take("alone", scenario)
    assigned, acquired = times(scenario, scenario.acquire(order))
    between = (acquired - assigned).total_seconds()
    longest = waiting_orders.age_s + COARSEST_CLOCK_S
    expected = f"an acquire_time {PAUSE_S} to {longest:.1f} s after the assign_time, because the client waited so long"
    scenario.check(LEAST_S <= between <= longest, expected, f"an acquire_time {between} s after it")


@pytest.mark.clause("ACQUIRE-7")
def test_a_new_order_has_its_own_times(scenario: Scenario, waiting_orders: WaitingOrders) -> None:
    """An order that replaces an older one does not inherit its times."""
    old = waiting_orders.take("replaced", scenario)
    with scenario.preparation():
        scenario.acquire(old)
    order = scenario.new_order(old.executor_id)
    scenario.assign(order)
    assigned, acquired = times(scenario, scenario.acquire(order))
    between = (acquired - assigned).total_seconds()
    scenario.check(0 <= between < LEAST_S, "the times of this order", f"an acquire_time {between} s after assign_time")


def times(scenario: Scenario, response: Response) -> tuple[datetime, datetime]:
    """Return both times in an answer to acquire, which must be in the contract's form."""
    assigned, acquired = (scenario.read(response, name) for name in ("assign_time", "acquire_time"))
    try:
        return parse_time(assigned), parse_time(acquired)
    except ValueError as error:
        scenario.fail("two times in RFC 3339, in UTC, with Z", str(error))


def server_time(response: Response) -> datetime:
    """Return the time of a response by the server's clock, or by the client's if the server does not tell."""
    try:
        return parsedate_to_datetime(response.header("Date") or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)


@pytest.mark.clause("ACQUIRE-8")
def test_answers_are_not_stored(scenario: Scenario) -> None:
    """Answers to acquire carry Cache-Control: no-store, with an order and without one."""
    order = scenario.prepare()
    # The header is checked in every answer to acquire.
    scenario.acquire(order)
    scenario.acquire_nothing(scenario.new_id("executor"))


@pytest.mark.clause("ACQUIRE-9")
def test_a_conditional_request_is_answered_in_full(scenario: Scenario) -> None:
    """A request with any condition gets the whole order, and never a 304."""
    order = scenario.prepare()
    with scenario.preparation():
        first = scenario.acquire(order)
    sha1 = f'"{hashlib.sha1(first.body, usedforsecurity=False).hexdigest()}"'
    md5 = f'"{hashlib.md5(first.body, usedforsecurity=False).hexdigest()}"'
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    conditions = [("If-None-Match", tag) for tag in ("*", sha1, f"W/{sha1}", md5, f"W/{md5}")]
    conditions += [("If-Modified-Since", tomorrow), ("If-Match", '"x"')]
    for header in conditions:
        response = scenario.send(replace(acquire_request(order.executor_id), headers=(header,)))
        expected = f"{first.status} with the whole order"
        scenario.check(response.status == first.status, expected, f"{response.status}")
        scenario.check_same(response, first, expected)
