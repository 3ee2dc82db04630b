"""The service beside a plain dictionary that should agree with it, over random histories."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, Client, message, not_active
from harness.server import ServerProcess

# Small pools, so that histories meet known orders and busy executors all the time.
orders = st.sampled_from(["order-1", "order-2", "order-3", "order-4"])
executors = st.sampled_from(["executor-1", "executor-2"])
zones = st.sampled_from(["zone-1", "zone-2"])

_histories = count(1)


class Model:
    """What the service should remember: each known order's executor, zone and status."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, str]] = {}

    def active_of(self, executor: str) -> str | None:
        """Return the executor's active order."""
        for order, known in self.orders.items():
            if known["executor"] == executor and known["status"] in ("assigned", "acquired"):
                return order
        return None

    def assign(self, order: str, executor: str, zone: str) -> str:
        """Assign, and return the message."""
        if order in self.orders:
            return ALREADY_EXISTS
        if (active := self.active_of(executor)) is not None:
            self.orders[active]["status"] = "completed"
        self.orders[order] = {"executor": executor, "zone": zone, "status": "assigned"}
        return CREATED

    def cancel(self, order: str) -> bool:
        """Cancel, and return whether there was something to cancel."""
        if order in self.orders and self.orders[order]["status"] in ("assigned", "acquired"):
            self.orders[order]["status"] = "cancelled"
            return True
        return False


class Lifecycle(RuleBasedStateMachine):
    """Random calls, each answered as the model says (D1 to D6)."""

    client: Client

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.profiles: dict[str, bytes] = {}
        self.prefix = f"history-{next(_histories)}-"

    @rule(order=orders, executor=executors, zone=zones)
    def assign(self, order: str, executor: str, zone: str) -> None:
        """Assign known and unknown orders to free and busy executors."""
        response = self.client.assign(self.prefix + order, self.prefix + executor, zone)
        expected = self.model.assign(order, executor, zone)
        assert message(response) == expected
        assert response.status_code == (200 if expected == CREATED else 400)

    @rule(executor=executors)
    def acquire(self, executor: str) -> None:
        """Acquire, with and without an active order."""
        response = self.client.acquire(self.prefix + executor)
        assert response.status_code == 200
        order = self.model.active_of(executor)
        if order is None:
            assert response.json() == {"message": NO_ORDERS}
            return
        known = self.model.orders[order]
        known["status"] = "acquired"
        assert message(response) == ACQUIRED
        profile = response.json()["order_profile"]
        assert profile["order_id"] == self.prefix + order
        assert profile["executor_id"] == self.prefix + known["executor"]
        assert profile["zone_id"] == known["zone"]
        assert profile["execution_status"] == "acquired"
        assert self.profiles.setdefault(order, response.content) == response.content

    @rule(order=orders)
    def cancel(self, order: str) -> None:
        """Cancel active, final and unknown orders."""
        response = self.client.cancel(self.prefix + order)
        assert response.status_code == 200
        expected = CANCELED if self.model.cancel(order) else not_active(self.prefix + order)
        assert message(response) == expected

    @invariant()
    def executors_without_an_active_order_get_none(self) -> None:
        """An order that is final never comes back (D5)."""
        for executor in ("executor-1", "executor-2"):
            if self.model.active_of(executor) is None:
                assert message(self.client.acquire(self.prefix + executor)) == NO_ORDERS


@pytest.fixture(params=["a file", "memory", "PostgreSQL"])
def lifecycle_client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    """A client of a server on each place where orders can be."""
    if request.param == "a file":
        database = f"sqlite:///{tmp_path}/orders.db"
    elif request.param == "memory":
        database = "sqlite:///:memory:"
    else:
        database = request.getfixturevalue("postgresql").create_database()
    with ServerProcess(database=database) as service, Client(service.url) as client:
        yield client


def test_the_service_agrees_with_a_plain_dictionary(lifecycle_client: Client) -> None:
    """Over random histories, every answer is the model's (D1, D2, D3, D4, D5, D6)."""

    class OfThisServer(Lifecycle):
        client = lifecycle_client

    run_state_machine_as_test(
        OfThisServer,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
