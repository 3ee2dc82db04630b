"""Acquire: the order, nothing, the profile, its times, and that it can be repeated (ACQUIRE)."""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from contract_tests.rules import ACQUIRE, parse_time
from contract_tests.run import Run
from contract_tests.service import Service, acquire_request
from contract_tests.transport import Answer, Connection, Request, encode

# A service may keep its times in whole seconds.
COARSEST_CLOCK_S = 1.0
PAUSE_S = 2.1
# So far may a service's own clocks be apart: that of its `Date` header and that of its orders.
CLOCK_TOLERANCE = timedelta(minutes=5)


@pytest.mark.clause("ACQUIRE-1")
def test_the_order_is_handed_out(service: Service) -> None:
    """Each executor gets the order that was assigned to them, with its zone."""
    orders = [service.new_order() for _ in range(3)]
    with service.clause("ACQUIRE-1"):
        for order in orders:
            service.assign(order)
        for order in reversed(orders):
            service.acquire(order)


@pytest.mark.clause("ACQUIRE-2")
@pytest.mark.parametrize("given", [[], ["order_id"], ["order_id", "zone_id"]], ids=["nothing", "order_id", "others"])
def test_an_absent_executor_is_reported(service: Service, given: list[str]) -> None:
    """Without executor_id there is nothing to acquire, even if an order is named."""
    order = service.new_order()
    service.assign(order)
    with service.clause("ACQUIRE-2"):
        service.call(Request(ACQUIRE.method, ACQUIRE.path, encode((name, getattr(order, name)) for name in given)))


@pytest.mark.clause("ACQUIRE-3")
def test_an_executor_who_never_had_an_order_gets_none(service: Service) -> None:
    """A new executor is told that there are no orders, however often they ask, and whatever others have."""
    service.assign(service.new_order())
    with service.clause("ACQUIRE-3"):
        executor_id = service.run.new_id("executor")
        for _ in range(3):
            service.acquire_nothing(executor_id)


@pytest.mark.clause("ACQUIRE-3")
@pytest.mark.parametrize("acquired", [False, True], ids=["unseen", "acquired"])
def test_an_executor_whose_orders_are_all_ended_gets_none(service: Service, acquired: bool) -> None:
    """With one order completed and one cancelled, there are no orders."""
    old = service.new_order()
    new = service.new_order(old.executor_id)
    for order in (old, new):
        service.assign(order)
        if acquired:
            service.acquire(order)
    service.cancel(new)
    with service.clause("ACQUIRE-3"):
        service.acquire_nothing(old.executor_id)


@pytest.mark.clause("ACQUIRE-4")
def test_acquiring_again_returns_the_same_bytes(service: Service, run: Run) -> None:
    """Again at once, on another connection, after a while, and after others did something: the same bytes."""
    order = service.new_order()
    service.assign(order)
    first = service.acquire(order)
    expected = f"the bytes of the first acquire: {first.body.decode(errors='backslashreplace')}"
    with service.clause("ACQUIRE-4"):
        for _ in range(3):
            service.check(service.acquire(order).body == first.body, expected)
        other = service.new_order()
        service.assign(other)
        service.acquire(other)
        service.cancel(other)
        service.check(service.acquire(order).body == first.body, expected)
        time.sleep(COARSEST_CLOCK_S + 0.1)
        service.check(service.acquire(order).body == first.body, expected)
    elsewhere = Service(run, Connection(run.target, kept=False))
    elsewhere.exchanges = service.exchanges
    with elsewhere.clause("ACQUIRE-4"):
        for _ in range(4):
            elsewhere.check(elsewhere.acquire(order).body == first.body, expected)


@pytest.mark.clause("ACQUIRE-5")
def test_the_profile_has_seven_properties(service: Service) -> None:
    """The profile has the names of the row, each a text, and the status is `acquired` from the first answer on."""
    order = service.new_order()
    service.assign(order)
    with service.clause("ACQUIRE-5"):
        profile = service.acquire(order).profile
        service.check(profile.get("execution_status") == "acquired", '"execution_status": "acquired"')
        for name in ("order_id", "executor_id", "zone_id"):
            service.check(profile.get(name) == getattr(order, name), f'"{name}": "{getattr(order, name)}"')


@pytest.mark.clause("ACQUIRE-6")
def test_each_order_has_its_own_uuid(service: Service) -> None:
    """Orders of several executors, and several of one, have different ids of the service's own making."""
    order = service.new_order()
    orders = [order, service.new_order(order.executor_id), service.new_order(), service.new_order()]
    with service.clause("ACQUIRE-6"):
        seen: set[object] = set()
        for order in orders:
            service.assign(order)
            own = service.acquire(order).profile.get("assigned_order_id")
            service.check(own not in seen, "an assigned_order_id that no other order has")
            service.check(own not in vars(order).values(), "an assigned_order_id that the service made")
            seen.add(own)


def times(answer: Answer) -> tuple[datetime, datetime]:
    """Return the times in an answer to acquire; raise ValueError if it has none that can be read."""
    assigned, acquired = (str(answer.profile.get(name)) for name in ("assign_time", "acquire_time"))
    return parse_time(assigned), parse_time(acquired)


def server_time(answer: Answer) -> datetime:
    """Return the server's own time when it answered; the client's, if it does not say."""
    try:
        return parsedate_to_datetime(answer.header("Date") or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)


@pytest.mark.clause("ASSIGN-4", "ASSIGN-5", "ACQUIRE-7", "WIRE-4")
def test_the_times_are_those_of_the_assign_and_the_first_acquire(service: Service) -> None:
    """Between assign and acquire lies the time that the client waited; a HEAD in between is no acquire."""
    waiting, head_only, prompt, replaced, sent_again, named_again = (service.new_order() for _ in range(6))
    begun = time.monotonic()
    created = service.assign(waiting)
    for order in (head_only, sent_again, named_again, replaced):
        service.assign(order)
    service.acquire(replaced)
    head = service.send(Request("HEAD", ACQUIRE.path, acquire_request(head_only.executor_id).query))
    with service.clause("WIRE-4"):
        service.check(head.status == 405, "405")
    with service.clause("ACQUIRE-7"):
        service.assign(prompt)
        answer = service.acquire(prompt)
        try:
            assigned, acquired = times(answer)
        except ValueError as error:
            service.fail(f"two times in RFC 3339, in UTC, with Z ({error})")
        off = abs(assigned - server_time(created))
        service.check(off < CLOCK_TOLERANCE, f"an assign_time near the time of the assign, {server_time(created)}")
        time.sleep(PAUSE_S)
        answer = service.acquire(waiting)
        assigned, acquired = times(answer)
        between = (acquired - assigned).total_seconds()
        longest = time.monotonic() - begun + COARSEST_CLOCK_S
        service.check(
            PAUSE_S - COARSEST_CLOCK_S <= between <= longest,
            f"an acquire_time about {PAUSE_S} s after the assign_time: so long after the assign it was first acquired",
        )
        replacing = service.new_order(replaced.executor_id)
        service.assign(replacing)
        assigned, acquired = times(service.acquire(replacing))
        between = (acquired - assigned).total_seconds()
        expected = "the times of this order, and not those of the one before"
        service.check(0 <= between < PAUSE_S - COARSEST_CLOCK_S, expected)
    for clause, order, repeat in (
        ("ASSIGN-4", sent_again, sent_again),
        ("ASSIGN-5", named_again, replace(service.new_order(), order_id=named_again.order_id)),
    ):
        with service.clause(clause):
            service.assign_known(repeat)
            assigned, acquired = times(service.acquire(order))
            between = (acquired - assigned).total_seconds()
            service.check(between >= PAUSE_S - COARSEST_CLOCK_S, "the assign_time of the assign that was not refused")
    with service.clause("WIRE-4"):
        assigned, acquired = times(service.acquire(head_only))
        between = (acquired - assigned).total_seconds()
        service.check(between >= PAUSE_S - COARSEST_CLOCK_S, "an order that the HEAD request did not acquire")


@pytest.mark.clause("ACQUIRE-8")
def test_answers_are_not_stored(service: Service) -> None:
    """An order, and the news that there is none, carry Cache-Control: no-store."""
    order = service.new_order()
    service.assign(order)
    with service.clause("ACQUIRE-8"):
        for answer in (service.acquire(order), service.acquire_nothing(service.run.new_id("executor"))):
            service.check("no-store" in (answer.header("Cache-Control") or "").lower(), "Cache-Control: no-store")


@pytest.mark.clause("ACQUIRE-9")
def test_a_conditional_request_is_answered_in_full(service: Service) -> None:
    """With whatever validator a client comes, it gets the order, and never a 304."""
    order = service.new_order()
    service.assign(order)
    first = service.acquire(order)
    with service.clause("ACQUIRE-9"):
        service.check(first.header("ETag") is None, "no ETag")
        nothing = service.acquire_nothing(service.run.new_id("executor"))
        service.check(nothing.header("ETag") is None, "no ETag")
        sha1 = f'"{hashlib.sha1(first.body, usedforsecurity=False).hexdigest()}"'
        md5 = f'"{hashlib.md5(first.body, usedforsecurity=False).hexdigest()}"'
        tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
        conditions = [("If-None-Match", tag) for tag in ("*", sha1, f"W/{sha1}", md5, f"W/{md5}")]
        conditions += [("If-Modified-Since", tomorrow), ("If-Match", '"x"')]
        for header in conditions:
            request = acquire_request(order.executor_id)
            answer = service.send(Request(request.method, request.path, request.query, (header,)))
            service.check(answer.status == 200 and answer.body == first.body, "200 with the order, in full")
