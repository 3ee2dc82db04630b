"""Assign: new orders, missing parameters, known orders, and that a refusal changes nothing (ASSIGN)."""

import itertools
from dataclasses import replace

import pytest

from contract_tests.rules import ALREADY_EXISTS, ASSIGN, CREATED
from contract_tests.service import Order, Service, assign_request
from contract_tests.transport import Request, encode


@pytest.mark.clause("ASSIGN-1")
def test_a_new_order_is_created(service: Service) -> None:
    """A new order for a new executor, and another for another in the same zone, are created."""
    with service.clause("ASSIGN-1"):
        order = service.new_order()
        service.assign(order)
        service.assign(replace(service.new_order(), zone_id=order.zone_id))


ABSENT = [
    names for count in (1, 2, 3) for names in itertools.combinations(("order_id", "executor_id", "zone_id"), count)
]


@pytest.mark.clause("ASSIGN-2")
@pytest.mark.parametrize("absent", ABSENT, ids="+".join)
def test_an_absent_parameter_is_reported(service: Service, absent: tuple[str, ...]) -> None:
    """Whichever parameters are absent, the message lists all three, of a known order too."""
    new, known = service.new_order(), service.new_order()
    service.assign(known)
    with service.clause("ASSIGN-2"):
        for order in (new, known):
            given = [(name, value) for name, value in vars(order).items() if name not in absent]
            service.call(Request(ASSIGN.method, ASSIGN.path, encode(given)))


@pytest.mark.clause("ASSIGN-3")
@pytest.mark.parametrize("changed", [(), ("executor_id",), ("zone_id",), ("executor_id", "zone_id")], ids="+".join)
def test_a_known_order_is_refused(service: Service, changed: tuple[str, ...]) -> None:
    """A known order_id is refused, with the same and with other parameters, however often."""
    order = service.new_order()
    service.assign(order)
    other = service.new_order()
    repeat = replace(order, **{name: getattr(other, name) for name in changed})
    with service.clause("ASSIGN-3"):
        for _ in range(3):
            service.assign_known(repeat)


@pytest.mark.clause("ASSIGN-3")
def test_a_known_order_is_refused_whatever_the_header(service: Service) -> None:
    """A header with which other services are asked to repeat their first answer makes no difference."""
    order = service.new_order()
    request = replace(assign_request(order), headers=(("Idempotency-Key", service.run.new_id("key")),))
    service.call(request, CREATED)
    with service.clause("ASSIGN-3"):
        service.call(request, ALREADY_EXISTS)


@pytest.mark.clause("ASSIGN-4")
@pytest.mark.parametrize("acquired", [False, True], ids=["assigned", "acquired"])
def test_the_same_assign_again_changes_nothing(service: Service, acquired: bool) -> None:
    """Before and after the order is acquired, a repeat leaves everything as it was."""
    order = service.new_order()
    service.assign(order)
    first = service.acquire(order) if acquired else None
    with service.clause("ASSIGN-4"):
        for _ in range(2):
            service.assign_known(order)
        answer = service.acquire(order)
        if first is not None:
            service.check(answer.body == first.body, "the bytes of the acquire before the repeat")
        service.cancel(order)
        service.assign_known(order)
        service.acquire_nothing(order.executor_id)


@pytest.mark.clause("ASSIGN-4")
def test_an_old_assign_again_leaves_the_newer_order(service: Service) -> None:
    """A repeat of the assign before the last one does not bring the older order back."""
    old = service.new_order()
    new = service.new_order(old.executor_id)
    service.assign(old)
    service.assign(new)
    first = service.acquire(new)
    with service.clause("ASSIGN-4"):
        service.assign_known(old)
        service.check(service.acquire(new).body == first.body, "the bytes of the acquire before the repeat")
        service.cancel(new)


@pytest.mark.clause("ASSIGN-5")
@pytest.mark.parametrize("acquired", [False, True], ids=["assigned", "acquired"])
@pytest.mark.parametrize("changed", [("executor_id",), ("zone_id",), ("executor_id", "zone_id")], ids="+".join)
def test_a_refused_assign_leaves_the_known_order(service: Service, changed: tuple[str, ...], acquired: bool) -> None:
    """The order keeps its executor, zone and times; another executor that was named does not get it."""
    order, other = service.new_order(), service.new_order()
    service.assign(order)
    first = service.acquire(order) if acquired else None
    with service.clause("ASSIGN-5"):
        service.assign_known(replace(order, **{name: getattr(other, name) for name in changed}))
        answer = service.acquire(order)
        if first is not None:
            service.check(answer.body == first.body, "the bytes of the acquire before the refused assign")
        service.acquire_nothing(other.executor_id)
        service.cancel(order)


def prepare(service: Service, status: str) -> Order:
    """Return an order in a status."""
    order = service.new_order()
    service.assign(order)
    if status == "acquired":
        service.acquire(order)
    elif status == "cancelled":
        service.cancel(order)
    elif status == "completed":
        service.assign(service.new_order(order.executor_id))
    return order


@pytest.mark.clause("ASSIGN-6")
@pytest.mark.parametrize("acquired", [False, True], ids=["of-assigned", "of-acquired"])
@pytest.mark.parametrize("status", ["assigned", "acquired", "cancelled", "completed"])
def test_a_refused_assign_leaves_the_executor_it_names(service: Service, status: str, acquired: bool) -> None:
    """Whatever became of the known order, the executor named in a refused assign keeps their own."""
    known = prepare(service, status)
    current = service.new_order()
    service.assign(current)
    first = service.acquire(current) if acquired else None
    with service.clause("ASSIGN-6"):
        for _ in range(3):
            service.assign_known(replace(known, executor_id=current.executor_id))
        answer = service.acquire(current)
        if first is not None:
            service.check(answer.body == first.body, "the bytes of the acquire before the refused assign")
        service.cancel(current)


@pytest.mark.clause("ASSIGN-6")
@pytest.mark.parametrize("status", ["assigned", "acquired", "cancelled", "completed"])
def test_a_refused_assign_gives_a_free_executor_nothing(service: Service, status: str) -> None:
    """An executor without an order, named in a refused assign, has none afterwards, and can be assigned one."""
    known = prepare(service, status)
    order = service.new_order()
    with service.clause("ASSIGN-6"):
        service.assign_known(replace(known, executor_id=order.executor_id))
        service.acquire_nothing(order.executor_id)
        service.assign(order)
        service.acquire(order)


@pytest.mark.clause("ASSIGN-7")
@pytest.mark.parametrize("acquired", [False, True], ids=["unseen", "acquired"])
@pytest.mark.parametrize("end", ["cancelled", "completed"])
def test_an_order_id_stays_known(service: Service, end: str, acquired: bool) -> None:
    """An ended order is refused with the same and with other parameters, and does not come back."""
    order = service.new_order()
    service.assign(order)
    if acquired:
        service.acquire(order)
    newer = service.new_order(order.executor_id)
    if end == "cancelled":
        service.cancel(order)
    else:
        service.assign(newer)
    with service.clause("ASSIGN-7"):
        service.assign_known(order)
        service.assign_known(replace(service.new_order(), order_id=order.order_id))
        if end == "cancelled":
            service.acquire_nothing(order.executor_id)
        else:
            service.acquire(newer)
