"""Clients whose answer was lost, and who send the request again (RETRY)."""

import time
from collections.abc import Iterator

import pytest

from contract_tests.rules import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, not_active
from contract_tests.service import Service, acquire_request, assign_request, cancel_request, repeated
from contract_tests.transport import Cut

# So long after the client has gone the server is done with the request.
SETTLED_S = 0.02

every_cut = pytest.mark.parametrize("cut", list(Cut))


def rounds(service: Service) -> Iterator[None]:
    """Begin one scenario after the other, as long as the budget allows."""
    for _ in repeated(service.run.budget.retries_s, least=4):
        service.begin()
        yield


@pytest.mark.clause("RETRY-1")
@every_cut
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_a_lost_assign_can_be_repeated(service: Service, cut: Cut, busy: bool) -> None:
    """The repeat is created or known, and from then on the order is the executor's, once."""
    for _ in rounds(service):
        old = service.new_order()
        order = service.new_order(old.executor_id)
        if busy:
            service.assign(old)
        with service.clause("RETRY-1"):
            service.send_and_leave(assign_request(order), cut)
            if busy:
                # Wholly done, or not at all: the executor has the new order or still the old one.
                time.sleep(SETTLED_S)
                found = service.call(acquire_request(order.executor_id), ACQUIRED).profile.get("order_id")
                service.check(found in (order.order_id, old.order_id), "the new order, or still the old one")
            answer = service.call(assign_request(order), ALREADY_EXISTS if cut is Cut.UNREAD else None)
            service.check(answer.message in (CREATED, ALREADY_EXISTS), f"{CREATED!r} or {ALREADY_EXISTS!r}")
            service.assign_known(order)
            service.acquire(order)
            service.cancel(order)
            service.acquire_nothing(order.executor_id)
            service.assign_known(order)


@pytest.mark.clause("RETRY-2")
@every_cut
def test_a_lost_acquire_can_be_repeated(service: Service, cut: Cut) -> None:
    """The repeat returns the order, and so does every later one, in the same bytes."""
    for _ in rounds(service):
        order = service.new_order()
        service.assign(order)
        with service.clause("RETRY-2"):
            service.send_and_leave(acquire_request(order.executor_id), cut)
            first = service.acquire(order)
            time.sleep(SETTLED_S)
            service.check(service.acquire(order).body == first.body, "the bytes of the first acquire")
            service.cancel(order)


@pytest.mark.clause("RETRY-3")
@every_cut
def test_a_lost_cancel_can_be_repeated(service: Service, cut: Cut) -> None:
    """After the repeat the order is not active, whichever of the two cancelled it, and its executor is free."""
    for _ in rounds(service):
        order = service.new_order()
        service.assign(order)
        with service.clause("RETRY-3"):
            service.send_and_leave(cancel_request(order.order_id), cut)
            gone = not_active(order.order_id)
            answer = service.call(cancel_request(order.order_id), gone if cut is Cut.UNREAD else None)
            service.check(answer.message in (CANCELED, gone), f"{CANCELED!r} or {gone!r}")
            service.cancel_nothing(order.order_id)
            service.acquire_nothing(order.executor_id)
            following = service.new_order(order.executor_id)
            service.assign(following)
            service.acquire(following)


@pytest.mark.clause("RETRY-4")
@pytest.mark.parametrize("missing", [1, 12, 40])
def test_a_request_cut_off_in_its_first_line_has_no_effect(service: Service, missing: int) -> None:
    """A client that goes away before it has said what it wants has asked for nothing.

    (Some HTTP servers take a head that ends after its first line for a whole one; the contract does not forbid that.)
    """
    order, current = service.new_order(), service.new_order()
    service.assign(current)
    with service.clause("RETRY-4"):
        for request in (assign_request(order), cancel_request(current.order_id + "x" * 40)):
            data, _, _ = service.run.target.raw(request).partition(b" HTTP/1.1")
            service.send_raw(data[:-missing], wait_s=0.01)
        time.sleep(SETTLED_S)
        service.acquire_nothing(order.executor_id)
        service.acquire(current)
        service.cancel(current)
        service.assign(order)
