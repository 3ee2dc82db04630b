"""Cancel: active orders, orders that are not active, and the id in the answer (CANCEL)."""

from dataclasses import replace

import pytest

from contract_tests.suite.calls import request_to
from contract_tests.suite.contract import CANCEL
from contract_tests.suite.scenario import CONNECTIONS, Scenario
from contract_tests.suite.transport import query_string


@pytest.mark.clause("CANCEL-1")
def test_an_assigned_order_is_cancelled(scenario: Scenario) -> None:
    """An order that its executor has not acquired can be cancelled."""
    scenario.cancel(scenario.prepare())


@pytest.mark.clause("CANCEL-1")
def test_an_order_is_cancelled_over_any_connection(scenario: Scenario) -> None:
    """An order can be cancelled, whichever process of the service has taken the connection of its assign."""
    for _ in range(CONNECTIONS):
        order = scenario.prepare()
        scenario.elsewhere().cancel(order)


@pytest.mark.clause("CANCEL-4")
@pytest.mark.parametrize("times", [1, 2])
def test_an_acquired_order_is_cancelled(scenario: Scenario, times: int) -> None:
    """An order that its executor has acquired, once or several times, can be cancelled."""
    order = scenario.prepare()
    with scenario.preparation():
        for _ in range(times):
            scenario.acquire(order)
    scenario.cancel(order)


@pytest.mark.clause("CANCEL-2")
@pytest.mark.parametrize("given", [[], ["executor_id"]], ids=["nothing", "executor_id"])
def test_an_absent_order_is_reported(scenario: Scenario, given: list[str]) -> None:
    """Without order_id, the message says so, even if an executor with an order is named."""
    order = scenario.prepare()
    query = query_string((name, getattr(order, name)) for name in given)
    scenario.call(request_to(CANCEL, query))


@pytest.mark.clause("CANCEL-3")
def test_an_unknown_order_is_not_active(scenario: Scenario) -> None:
    """An order that never existed cannot be cancelled, however often, and it can still be assigned."""
    order = scenario.new_order()
    scenario.cancel_nothing(order.order_id)
    scenario.cancel_nothing(order.order_id)
    scenario.assign(order)


@pytest.mark.clause("CANCEL-3")
@pytest.mark.parametrize("status", ["assigned", "acquired"])
def test_a_cancelled_order_is_not_active(scenario: Scenario, status: str) -> None:
    """An order that is cancelled cannot be cancelled again, however often. (LIFE-1 is about completed ones.)"""
    order = scenario.prepare(status)
    with scenario.preparation():
        scenario.cancel(order)
    scenario.cancel_nothing(order.order_id)
    scenario.cancel_nothing(order.order_id)


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
def test_the_id_in_the_answer_is_the_id_in_the_request(scenario: Scenario, form: str) -> None:
    """Cancel's answer has any id unchanged, whether the order is unknown or cancelled."""
    order = replace(scenario.new_order(), order_id=form.format(scenario.new_id("order")))
    scenario.cancel_nothing(order.order_id)
    scenario.assign(order)
    scenario.cancel(order)
    scenario.cancel_nothing(order.order_id)
