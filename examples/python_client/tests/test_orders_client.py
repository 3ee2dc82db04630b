"""The client against the reference server, which fails on demand and records what it is sent.

The fixtures `orders_server` and `orders_url` come with the package of the orders service; no import is needed for them.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from orders.testing import Kind, OperationId, ReferenceServer, When

from orders_client import (
    Assigned,
    Cancelled,
    GaveUp,
    OrderAlreadyExists,
    OrdersClient,
    RequestRefused,
    Retries,
    UnexpectedAnswer,
)

RETRIES = Retries(attempts=4, first_pause_s=0.1, longest_pause_s=0.3)
# Longer than any test waits. The reset before the next test, or the server's stop, ends the delay.
FOR_EVER_MS = 600_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call 127.0.0.1 directly, whatever proxy the environment names."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that the client has asked for, in seconds; none of them is waited for."""
    return []


@pytest.fixture
def client(orders_url: str, pauses: list[float]) -> Iterator[OrdersClient]:
    """A client of a server that knows no order."""
    with OrdersClient(orders_url, timeout_s=20, retries=RETRIES, sleep=pauses.append) as client:
        yield client


@pytest.fixture
def hasty_client(orders_url: str, pauses: list[float]) -> Iterator[OrdersClient]:
    """A client of the same server that soon stops waiting for an answer."""
    with OrdersClient(orders_url, timeout_s=0.5, retries=RETRIES, sleep=pauses.append) as client:
        yield client


def outcomes(server: ReferenceServer, operation: OperationId) -> list[tuple[str, int | None]]:
    """Return how the attempts at an operation ended: outcome and status."""
    return [(request.outcome, request.status) for request in server.requests(operation)]


def stored(server: ReferenceServer) -> list[tuple[str, str, str]]:
    """Return order, executor and status of all orders."""
    return [(order["order_id"], order["executor_id"], order["execution_status"]) for order in server.orders()]


def test_an_order_is_assigned_acquired_and_cancelled(client: OrdersClient, orders_server: ReferenceServer) -> None:
    """All goes well, at the first attempt each time."""
    assert client.assign("order-1", "executor-1", "zone-1") is Assigned.CREATED
    profile = client.acquire("executor-1")
    assert profile
    assert (profile.order_id, profile.executor_id, profile.zone_id) == ("order-1", "executor-1", "zone-1")
    assert profile.execution_status == "acquired"
    assert profile.assign_time <= profile.acquire_time
    assert profile.acquire_time.utcoffset() == timedelta(0)
    assert client.cancel("order-1") is Cancelled.CANCELED
    assert client.acquire("executor-1") is None
    assert client.cancel("order-1") is Cancelled.NOT_ACTIVE
    assert stored(orders_server) == [("order-1", "executor-1", "cancelled")]
    assert [request.status for request in orders_server.requests()] == [200] * 5


def test_what_the_client_sends(client: OrdersClient, orders_server: ReferenceServer) -> None:
    """Identifiers arrive as they are, whatever is in them, in the query alone; the client says who it is."""
    identifiers = {"order_id": "a b+c%20&d=e/é😀", "executor_id": "../x?y#z", "zone_id": " "}
    client.assign(**identifiers)
    (request,) = orders_server.requests()
    assert (request.method, urlsplit(request.target).path) == ("PUT", "/orders/assign")
    assert request.parameters == identifiers
    assert request.body == ""
    assert request.headers["user-agent"] == "orders-client/0.1.0"
    client.acquire(identifiers["executor_id"])
    client.cancel(identifiers["order_id"])
    _, acquire, cancel = orders_server.requests()
    assert (acquire.method, acquire.operation, acquire.parameters) == (
        "GET",
        "acquire_order",
        {"executor_id": identifiers["executor_id"]},
    )
    assert (cancel.method, cancel.operation, cancel.parameters) == (
        "POST",
        "cancel_order",
        {"order_id": identifiers["order_id"]},
    )


def test_a_known_order_is_an_error_at_the_first_attempt(client: OrdersClient, orders_server: ReferenceServer) -> None:
    """An order that was assigned before is not assigned again, and the caller is told."""
    client.assign("order-1", "executor-1", "zone-1")
    with pytest.raises(OrderAlreadyExists, match=r"order_id=order-1.*executor-2.* already exists"):
        client.assign("order-1", "executor-2", "zone-1")
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]
    assert outcomes(orders_server, "assign_order") == [("answered", 200), ("answered", 400)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_errors_are_survived(
    client: OrdersClient, orders_server: ReferenceServer, pauses: list[float], when: When
) -> None:
    """After two 500s, whether they hide a success or not, the third attempt brings the answer."""
    client.assign("order-1", "executor-1", "zone-1")
    orders_server.fail_next("acquire_order", count=2, when=when)
    profile = client.acquire("executor-1")
    assert profile and profile.order_id == "order-1"
    assert outcomes(orders_server, "acquire_order") == [("answered", 500), ("answered", 500), ("answered", 200)]
    assert len(pauses) == 2


@pytest.mark.parametrize("kind", ["error", "drop"])
def test_the_client_gives_up(
    client: OrdersClient, orders_server: ReferenceServer, pauses: list[float], kind: Kind
) -> None:
    """After four attempts there is no fifth; the error says what was sent and what was last to come back."""
    orders_server.fail_next("cancel_order", kind, count=10)
    with pytest.raises(GaveUp) as caught:
        client.cancel("order-1")
    assert "/order/cancel?order_id=order-1 failed 4 times" in str(caught.value)
    assert ("500 {'message': 'Unknown error'}" if kind == "error" else "disconnected") in str(caught.value)
    assert len(orders_server.requests()) == 4, "httpx adds no attempts of its own"
    assert len(pauses) == 3
    assert [fault.count for fault in orders_server.faults()] == [6]


def test_the_pauses_grow(client: OrdersClient, orders_server: ReferenceServer, pauses: list[float]) -> None:
    """Each pause is twice the one before, up to the longest, and between a half and the whole of that."""
    orders_server.fail_next("acquire_order", count=3)
    client.acquire("executor-1")
    for pause_s, whole_s in zip(pauses, [0.1, 0.2, 0.3], strict=True):
        assert whole_s / 2 <= pause_s <= whole_s, pauses


@pytest.mark.parametrize(("when", "known"), [("before", Assigned.CREATED), ("after", Assigned.EXISTS)])
def test_an_assign_whose_answer_is_lost(
    client: OrdersClient, orders_server: ReferenceServer, when: When, known: Assigned
) -> None:
    """The same request again is a success, whether the lost one had registered the order or not; there is one order."""
    orders_server.fail_next("assign_order", "drop", when=when)
    assert client.assign("order-1", "executor-1", "zone-1") is known
    lost, repeated = orders_server.requests()
    assert (lost.outcome, lost.status) == ("dropped", None)
    assert repeated.status == (200 if known is Assigned.CREATED else 400)
    assert (repeated.method, repeated.target, repeated.headers) == (lost.method, lost.target, lost.headers)
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]


def test_an_assign_that_is_answered_500_after_it_took_place(
    client: OrdersClient, orders_server: ReferenceServer
) -> None:
    """A 500 raises the same doubt as a lost answer: that the order already exists is then a success."""
    orders_server.fail_next("assign_order", when="after")
    assert client.assign("order-1", "executor-1", "zone-1") is Assigned.EXISTS
    assert outcomes(orders_server, "assign_order") == [("answered", 500), ("answered", 400)]


def test_nobody_can_tell_who_registered_an_order_after_a_lost_attempt(
    client: OrdersClient, orders_server: ReferenceServer
) -> None:
    """The limit of it: an order that was known before looks the same, if the first answer is lost."""
    client.assign("order-1", "executor-1", "zone-1")
    orders_server.fail_next("assign_order", "drop")
    assert client.assign("order-1", "executor-2", "zone-1") is Assigned.EXISTS
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]


def test_an_attempt_that_reached_no_server_leaves_no_doubt() -> None:
    """A server that is down for a while is found again; if the order is known to it then, it was known before."""
    with ReferenceServer() as server:
        url = server.url
    restarted = ReferenceServer(port=urlsplit(url).port or 0)

    def restart(_: float) -> None:
        restarted.start()
        httpx.put(f"{url}/orders/assign?order_id=order-1&executor_id=executor-1&zone_id=zone-1")

    try:
        with OrdersClient(url, sleep=restart) as client, pytest.raises(OrderAlreadyExists):
            client.assign("order-1", "executor-2", "zone-1")
    finally:
        restarted.stop()


def test_a_connection_that_the_server_has_closed_is_replaced(pauses: list[float]) -> None:
    """The client keeps its connection; that the server was restarted meanwhile costs no call its success."""
    with ReferenceServer() as server:
        client = OrdersClient(server.url, sleep=pauses.append)
        client.assign("order-1", "executor-1", "zone-1")
        port = urlsplit(server.url).port or 0
    with client, ReferenceServer(port=port) as server:
        assert client.assign("order-2", "executor-1", "zone-1") is Assigned.CREATED
        assert stored(server) == [("order-2", "executor-1", "assigned")]


def test_a_slow_assign_is_repeated(hasty_client: OrdersClient, orders_server: ReferenceServer) -> None:
    """An answer that takes longer than the client waits counts as lost: there is one order, and that is a success."""
    orders_server.fail_next("assign_order", "delay", delay_ms=FOR_EVER_MS, when="after")
    assert hasty_client.assign("order-1", "executor-1", "zone-1") is Assigned.EXISTS
    slow, *repeated = orders_server.requests()
    assert slow.outcome == "pending"
    assert {request.target for request in repeated} == {slow.target}
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]


def test_an_acquire_whose_answer_is_lost(client: OrdersClient, orders_server: ReferenceServer) -> None:
    """The profile is the one that was lost: the order was acquired at the first attempt, and is still active."""
    client.assign("order-1", "executor-1", "zone-1")
    orders_server.fail_next("acquire_order", "drop", when="after")
    profile = client.acquire("executor-1")
    _, lost, repeated = orders_server.requests()
    assert (lost.outcome, repeated.status) == ("dropped", 200)
    assert profile and profile.order_id == "order-1"
    assert profile.acquire_time < datetime.fromisoformat(repeated.time), "it was acquired by the lost attempt"
    assert client.acquire("executor-1") == profile


@pytest.mark.parametrize(("when", "known"), [("before", Cancelled.CANCELED), ("after", Cancelled.NOT_ACTIVE)])
def test_a_cancel_whose_answer_is_lost(
    client: OrdersClient, orders_server: ReferenceServer, when: When, known: Cancelled
) -> None:
    """The order is cancelled, whether by the lost attempt or by the second."""
    client.assign("order-1", "executor-1", "zone-1")
    orders_server.fail_next("cancel_order", "drop", when=when)
    assert client.cancel("order-1") is known
    assert outcomes(orders_server, "cancel_order") == [("dropped", None), ("answered", 200)]
    assert stored(orders_server) == [("order-1", "executor-1", "cancelled")]


def test_a_refused_request_is_not_repeated(
    client: OrdersClient, orders_server: ReferenceServer, pauses: list[float]
) -> None:
    """A 400 is final, for every operation."""
    for operation in ("assign_order", "acquire_order", "cancel_order"):
        orders_server.fail_next(operation, status=400)
    with pytest.raises(RequestRefused, match="Missing parameters, please provide order_id, executor_id and zone_id"):
        client.assign("order-1", "executor-1", "zone-1")
    with pytest.raises(RequestRefused, match="Missing parameters, please provide executor_id"):
        client.acquire("executor-1")
    with pytest.raises(RequestRefused, match="Missing parameters, please provide order_id"):
        client.cancel("order-1")
    assert [request.status for request in orders_server.requests()] == [400] * 3
    assert pauses == []


@pytest.mark.parametrize(
    ("executor_id", "reason"),
    [
        ("", "Missing parameters, please provide order_id, executor_id and zone_id"),
        ("x" * 256, "Invalid parameter executor_id: longer than 255 characters"),
        ("line\nbreak", "Invalid parameter executor_id: control characters are not allowed"),
    ],
    ids=["missing", "too long", "control character"],
)
def test_a_bad_parameter_is_refused(
    client: OrdersClient, orders_server: ReferenceServer, executor_id: str, reason: str
) -> None:
    """The caller is told what is wrong with a parameter; nothing is stored."""
    with pytest.raises(RequestRefused, match=reason):
        client.assign("order-1", executor_id, "zone-1")
    assert stored(orders_server) == []
    assert len(orders_server.requests()) == 1


def test_what_is_not_the_orders_service_is_found_out(orders_url: str, orders_server: ReferenceServer) -> None:
    """An answer that the contract does not have, from a wrong URL say, is an error at once."""
    with OrdersClient(f"{orders_url}/wrong") as client, pytest.raises(UnexpectedAnswer, match=r"404.*Not found"):
        client.acquire("executor-1")
    (request,) = orders_server.requests()
    assert (request.operation, request.target) == (None, "/wrong/order/acquire?executor_id=executor-1")
