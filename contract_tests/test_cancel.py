"""Cancel: active orders, orders that are not active, and the id in the answer (CANCEL)."""

from dataclasses import replace

import pytest

from contract_tests.rules import CANCEL
from contract_tests.service import Service
from contract_tests.transport import Request, encode


@pytest.mark.clause("CANCEL-1")
def test_an_assigned_order_is_cancelled(service: Service) -> None:
    """An order that nobody has acquired yet can be cancelled."""
    order = service.new_order()
    service.assign(order)
    with service.clause("CANCEL-1"):
        service.cancel(order)


@pytest.mark.clause("CANCEL-4")
def test_an_acquired_order_is_cancelled(service: Service) -> None:
    """An order that its executor has acquired, once or more often, can be cancelled."""
    with service.clause("CANCEL-4"):
        for times in (1, 2):
            order = service.new_order()
            service.assign(order)
            for _ in range(times):
                service.acquire(order)
            service.cancel(order)


@pytest.mark.clause("CANCEL-2")
@pytest.mark.parametrize("given", [[], ["executor_id"]], ids=["nothing", "executor_id"])
def test_an_absent_order_is_reported(service: Service, given: list[str]) -> None:
    """Without order_id there is nothing to cancel, even if an executor is named, who keeps their order."""
    order = service.new_order()
    service.assign(order)
    with service.clause("CANCEL-2"):
        service.call(Request(CANCEL.method, CANCEL.path, encode((name, getattr(order, name)) for name in given)))
        service.acquire(order)


@pytest.mark.clause("CANCEL-3")
def test_an_unknown_order_is_not_active(service: Service) -> None:
    """An order that never existed cannot be cancelled, however often; and it can still be assigned."""
    order = service.new_order()
    with service.clause("CANCEL-3"):
        service.cancel_nothing(order.order_id)
        service.cancel_nothing(order.order_id)
    service.assign(order)


@pytest.mark.clause("CANCEL-3")
@pytest.mark.parametrize("acquired", [False, True], ids=["unseen", "acquired"])
@pytest.mark.parametrize("end", ["cancelled", "completed"])
def test_an_ended_order_is_not_active(service: Service, end: str, acquired: bool) -> None:
    """An order that was cancelled or completed cannot be cancelled, however often."""
    order = service.new_order()
    service.assign(order)
    if acquired:
        service.acquire(order)
    if end == "cancelled":
        service.cancel(order)
    else:
        service.assign(service.new_order(order.executor_id))
    with service.clause("CANCEL-3"):
        service.cancel_nothing(order.order_id)
        service.cancel_nothing(order.order_id)


@pytest.mark.clause("CANCEL-5")
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "Ünïcödé-{}-日本-🛵",
        " {} ",
        "MiXed-{}-CASE",
        "$$order_id-{}",
        "{}-%41%20+&=?#/;,:@",
        "'{}' \"double\" \\back\\ `tick`",
        "<b>{}</b>&amp;",
        "{}%s%d{{0}}{{{{order_id}}}}${{x}}",
        "\u2028{}\u2029\u0085",
        "\N{ZERO WIDTH NO-BREAK SPACE}{}e\N{COMBINING ACUTE ACCENT}\N{LATIN SMALL LETTER E WITH ACUTE}",
    ],
)
def test_the_id_in_the_answer_is_the_id_asked_for(service: Service, form: str) -> None:
    """Whatever is in an id, cancel's answer has it back unchanged: of an unknown order, and of a cancelled one."""
    order = replace(service.new_order(), order_id=form.format(service.run.new_id("order")))
    with service.clause("CANCEL-5"):
        service.cancel_nothing(order.order_id)
        service.assign(order)
        service.cancel(order)
        service.cancel_nothing(order.order_id)
