"""Orders that wait for the tests of times, so that all these tests together need only one pause."""

import time
from dataclasses import replace
from datetime import UTC, datetime

from contract_tests.suite.calls import Order, acquire_request, assign_request
from contract_tests.suite.contract import CREATED
from contract_tests.suite.rules import parse_time
from contract_tests.suite.run import Run
from contract_tests.suite.scenario import Scenario
from contract_tests.suite.transport import Response, Step

# A service may keep its times in whole seconds.
COARSEST_CLOCK_S = 1.0
PAUSE_S = 2.1
# An order that has waited so long has times that differ by at least this much.
LEAST_S = PAUSE_S - COARSEST_CLOCK_S


class WaitingOrders:
    """Orders that are assigned at the same time, and taken when they have waited for `PAUSE_S`."""

    # `asked-by-head` is an order that a HEAD request asked for at the start.
    NAMES = ("alone", "replaced", "sent-again", "named-again", "asked-by-head")

    def __init__(self, run: Run) -> None:
        """Assign the orders. The tests that take them check the answers."""
        self._begun = time.monotonic()
        self._steps: dict[str, list[Step]] = {}
        self._orders: dict[str, Order] = {}
        scenario = Scenario(run)
        for name in self.NAMES:
            scenario.forget()
            order = self._orders[name] = scenario.new_order()
            scenario.send(assign_request(order))
            if name == "asked-by-head":
                scenario.send(replace(acquire_request(order.executor_id), method="HEAD"))
            self._steps[name] = scenario.steps
        # The first acquire of another order must not count as that of an order that waits, even in the same zone.
        other = replace(scenario.new_order(), zone_id=self._orders["alone"].zone_id)
        scenario.steps = self._steps["alone"]
        scenario.send(assign_request(other))
        scenario.send(acquire_request(other.executor_id))
        scenario.close()

    @property
    def age_s(self) -> float:
        """How long the orders have existed, in seconds, at most."""
        return time.monotonic() - self._begun

    def take(self, name: str, scenario: Scenario) -> Order:
        """Wait until `PAUSE_S` is over, and go on with an order in a scenario. Each order can be taken once."""
        order = self._orders.pop(name)
        time.sleep(max(0.0, PAUSE_S - self.age_s))
        scenario.steps = self._steps.pop(name)
        # A server may forget orders after a while (LIFE-7), let another executor's order end this one (LIFE-4), or have
        # wrong times from the start (ACQUIRE-7).
        scenario.relies = frozenset({"LIFE-7", "LIFE-4", "ACQUIRE-7"})
        with scenario.preparation():
            scenario.check_step(scenario.steps[0], CREATED)
        return order


def seconds_between(scenario: Scenario, response: Response) -> float:
    """Return the seconds between the two times in an answer to acquire, in whatever form they are.

    The form is ACQUIRE-7's matter.
    """
    assigned, acquired = (scenario.read(response, name) for name in ("assign_time", "acquire_time"))
    try:
        return (_moment(acquired) - _moment(assigned)).total_seconds()
    except ValueError as error:
        scenario.fail("two times in RFC 3339, in UTC, with Z", str(error), clause="ACQUIRE-7")


def _moment(text: str) -> datetime:
    """Return a time in one of the forms that services use. Raises ValueError if it has another one."""
    try:
        return parse_time(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        # Seconds or milliseconds since 1970.
        seconds = float(text)
        return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
