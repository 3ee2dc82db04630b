"""Acquire: the order, no order, the profile, its times, and that it can be repeated (ACQUIRE)."""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from contract_tests.suite.calls import acquire_request, request_to
from contract_tests.suite.contract import ACQUIRE, ASSIGN, METHOD_NOT_ALLOWED, PROFILE
from contract_tests.suite.rules import parse_time
from contract_tests.suite.run import Run
from contract_tests.suite.scenario import Scenario
from contract_tests.suite.transport import Connection, Response, query_string

# A service may keep its times in whole seconds.
COARSEST_CLOCK_S = 1.0
PAUSE_S = 2.1
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


@pytest.mark.clause("ACQUIRE-3")
@pytest.mark.parametrize("status", ["assigned", "acquired"])
def test_an_executor_whose_orders_are_all_ended_gets_none(scenario: Scenario, status: str) -> None:
    """An executor with a completed and a cancelled order is told that there are no orders."""
    old = scenario.prepare(status)
    new = scenario.prepare(status, old.executor_id)
    with scenario.preparation():
        scenario.cancel(new)
    scenario.acquire_nothing(old.executor_id)


@pytest.mark.clause("ACQUIRE-4")
def test_acquiring_again_returns_the_same_bytes(scenario: Scenario, run: Run) -> None:
    """At once, after a while, after other calls, and over another connection, the bytes are the same."""
    order, other = scenario.prepare(), scenario.new_order()
    with scenario.preparation():
        first = scenario.acquire(order)
    expected = f"the bytes of the first acquire: {first.body.decode(errors='backslashreplace')}"
    for _ in range(3):
        scenario.check(scenario.acquire(order).body == first.body, expected)
    scenario.assign(other)
    scenario.acquire(other)
    scenario.cancel(other)
    scenario.check(scenario.acquire(order).body == first.body, expected)
    time.sleep(COARSEST_CLOCK_S + 0.1)
    scenario.check(scenario.acquire(order).body == first.body, expected)
    elsewhere = Scenario(run, Connection(run.target, keep_alive=False))
    elsewhere.steps = scenario.steps
    for _ in range(4):
        elsewhere.check(elsewhere.acquire(order).body == first.body, expected)


@pytest.mark.clause("ACQUIRE-5")
def test_the_profile_has_all_properties(scenario: Scenario) -> None:
    """The profile has the status `acquired` from the first answer on, and the parameters of the assign."""
    order = scenario.prepare()
    profile = scenario.acquire(order).profile
    (status,) = PROFILE["execution_status"]["enum"]
    scenario.check(profile.get("execution_status") == status, f'"execution_status": "{status}"')
    for name in ASSIGN.parameters:
        scenario.check(profile.get(name) == getattr(order, name), f'"{name}": "{getattr(order, name)}"')


@pytest.mark.clause("ACQUIRE-6")
def test_each_order_has_its_own_uuid(scenario: Scenario) -> None:
    """The orders of one executor and of several have different ids, which the service itself made."""
    first = scenario.new_order()
    seen: set[object] = set()
    for order in (first, scenario.new_order(first.executor_id), scenario.new_order(), scenario.new_order()):
        scenario.assign(order)
        own = scenario.acquire(order).profile.get("assigned_order_id")
        scenario.check(own not in seen, "an assigned_order_id that no other order has")
        scenario.check(own not in vars(order).values(), "an assigned_order_id that the service made")
        seen.add(own)


def times(response: Response) -> tuple[datetime, datetime]:
    """Return both times in an answer to acquire. Raises ValueError if one is absent or unreadable."""
    assigned, acquired = (str(response.profile.get(name)) for name in ("assign_time", "acquire_time"))
    return parse_time(assigned), parse_time(acquired)


def seconds_between(response: Response) -> float:
    """Return the seconds from the assign to the first acquire, by an answer to acquire."""
    assigned, acquired = times(response)
    return (acquired - assigned).total_seconds()


def server_time(response: Response) -> datetime:
    """Return the time of a response by the server's clock, or by the client's if the server does not tell."""
    try:
        return parsedate_to_datetime(response.header("Date") or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)


@pytest.mark.clause("ASSIGN-4", "ASSIGN-5", "ACQUIRE-7", "WIRE-4")
def test_the_times_are_those_of_the_assign_and_the_first_acquire(scenario: Scenario) -> None:
    """The times differ by as long as the client waited. Neither a refused assign nor a HEAD changes them."""
    waiting, head_only, prompt, replaced, sent_again, named_again = (scenario.new_order() for _ in range(6))
    begun = time.monotonic()
    created = scenario.assign(waiting)
    for order in (head_only, sent_again, named_again, replaced):
        scenario.assign(order)
    scenario.acquire(replaced)
    head = scenario.send(replace(acquire_request(head_only.executor_id), method="HEAD"))
    least = PAUSE_S - COARSEST_CLOCK_S
    with scenario.clause("WIRE-4"):
        scenario.check(head.status == METHOD_NOT_ALLOWED.status, str(METHOD_NOT_ALLOWED.status))
    with scenario.clause("ACQUIRE-7"):
        scenario.assign(prompt)
        response = scenario.acquire(prompt)
        try:
            assigned, _ = times(response)
        except ValueError as error:
            scenario.fail(f"two times in RFC 3339, in UTC, with Z ({error})")
        off = abs(assigned - server_time(created))
        scenario.check(off < CLOCK_TOLERANCE, f"an assign_time near the time of the assign, {server_time(created)}")
        time.sleep(PAUSE_S)
        between = seconds_between(scenario.acquire(waiting))
        longest = time.monotonic() - begun + COARSEST_CLOCK_S
        expected = f"an acquire_time about {PAUSE_S} s after the assign_time, because the client waited so long"
        scenario.check(least <= between <= longest, expected)
        replacing = scenario.new_order(replaced.executor_id)
        scenario.assign(replacing)
        between = seconds_between(scenario.acquire(replacing))
        scenario.check(0 <= between < least, "the times of this order, and not those of the one before")
    for clause, order, repeat in (
        ("ASSIGN-4", sent_again, sent_again),
        ("ASSIGN-5", named_again, replace(scenario.new_order(), order_id=named_again.order_id)),
    ):
        with scenario.clause(clause):
            scenario.assign_known(repeat)
            between = seconds_between(scenario.acquire(order))
            scenario.check(between >= least, "the assign_time of the assign that was not refused")
    with scenario.clause("WIRE-4"):
        between = seconds_between(scenario.acquire(head_only))
        scenario.check(between >= least, "an order that the HEAD request did not acquire")


@pytest.mark.clause("ACQUIRE-8")
def test_answers_are_not_stored(scenario: Scenario) -> None:
    """Answers to acquire carry Cache-Control: no-store, with an order and without one."""
    order = scenario.prepare()
    for response in (scenario.acquire(order), scenario.acquire_nothing(scenario.new_id("executor"))):
        scenario.check("no-store" in (response.header("Cache-Control") or "").lower(), "Cache-Control: no-store")


@pytest.mark.clause("ACQUIRE-9")
def test_a_conditional_request_is_answered_in_full(scenario: Scenario) -> None:
    """A request with any condition gets the whole order, and never a 304."""
    order = scenario.prepare()
    with scenario.preparation():
        first = scenario.acquire(order)
    nothing = scenario.acquire_nothing(scenario.new_id("executor"))
    for response in (first, nothing):
        scenario.check(response.header("ETag") is None, "no ETag")
    sha1 = f'"{hashlib.sha1(first.body, usedforsecurity=False).hexdigest()}"'
    md5 = f'"{hashlib.md5(first.body, usedforsecurity=False).hexdigest()}"'
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    conditions = [("If-None-Match", tag) for tag in ("*", sha1, f"W/{sha1}", md5, f"W/{md5}")]
    conditions += [("If-Modified-Since", tomorrow), ("If-Match", '"x"')]
    for header in conditions:
        response = scenario.send(replace(acquire_request(order.executor_id), headers=(header,)))
        is_full = response.status == first.status and response.body == first.body
        scenario.check(is_full, f"{first.status} with the order, in full")
