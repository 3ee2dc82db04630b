"""Tests of the client against the reference server, which fails on demand and records requests.

The package of the orders service provides the fixtures `orders_server` and `orders_url`. They need no import.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

import httpx
import pytest
from orders.testing import Body, Kind, OperationId, ReferenceServer, When

from orders_client import (
    Assigned,
    Cancelled,
    GaveUp,
    OrderAlreadyExists,
    OrdersClient,
    RequestRefused,
    Retries,
    UnexpectedAnswer,
    retry_after_s,
)

RETRIES = Retries(attempts=4, first_pause_s=0.1, longest_pause_s=0.3)
# Longer than any test waits. The delay ends at the reset before the next test, or when the server stops.
FOR_EVER_MS = 600_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call 127.0.0.1 directly, even if the environment names a proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that the client has requested, in seconds. The tests do not wait for them."""
    return []


@pytest.fixture
def client(orders_url: str, pauses: list[float]) -> Iterator[OrdersClient]:
    """A client of a server without orders."""
    with OrdersClient(orders_url, timeout_s=20, retries=RETRIES, sleep=pauses.append) as client:
        yield client


@pytest.fixture
def hasty_client(orders_url: str, pauses: list[float]) -> Iterator[OrdersClient]:
    """A client of the same server with a short timeout."""
    with OrdersClient(orders_url, timeout_s=0.5, retries=RETRIES, sleep=pauses.append) as client:
        yield client


def outcomes(server: ReferenceServer, operation: OperationId) -> list[tuple[str, int | None]]:
    """Return the outcome and the status of each attempt at an operation."""
    return [(request.outcome, request.status) for request in server.requests(operation)]


def stored(server: ReferenceServer) -> list[tuple[str, str, str]]:
    """Return the id, the executor and the status of each stored order."""
    return [(order["order_id"], order["executor_id"], order["execution_status"]) for order in server.orders()]


def test_an_order_is_assigned_acquired_and_cancelled(client: OrdersClient, orders_server: ReferenceServer) -> None:
    """Each operation succeeds at the first attempt."""
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
    """The client sends identifiers unchanged, only in the query, and names itself in `User-Agent`."""
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
    """If an order was assigned before, assigning it again raises OrderAlreadyExists and changes nothing."""
    client.assign("order-1", "executor-1", "zone-1")
    with pytest.raises(OrderAlreadyExists, match=r"order_id=order-1.*executor-2.* already exists"):
        client.assign("order-1", "executor-2", "zone-1")
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]
    assert outcomes(orders_server, "assign_order") == [("answered", 200), ("answered", 400)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_errors_are_followed_by_success(
    client: OrdersClient, orders_server: ReferenceServer, pauses: list[float], when: When
) -> None:
    """After two 500s, the third attempt succeeds, whether the failed ones took effect or not."""
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
    """The client gives up after four attempts, and the error has the request and the last response."""
    orders_server.fail_next("cancel_order", kind, count=10)
    with pytest.raises(GaveUp) as caught:
        client.cancel("order-1")
    assert "/order/cancel?order_id=order-1 failed 4 times" in str(caught.value)
    assert ("500 {'message': 'Unknown error'}" if kind == "error" else "disconnected") in str(caught.value)
    assert caught.value.in_doubt
    assert len(orders_server.requests()) == 4, "httpx has repeated a request"
    assert len(pauses) == 3
    assert [fault.count for fault in orders_server.faults()] == [6]


def test_the_pauses_grow(client: OrdersClient, orders_server: ReferenceServer, pauses: list[float]) -> None:
    """Each pause doubles up to the longest pause, and a random part of at most one half is cut off."""
    orders_server.fail_next("acquire_order", count=3)
    client.acquire("executor-1")
    for pause_s, full_s in zip(pauses, [0.1, 0.2, 0.3], strict=True):
        assert full_s / 2 <= pause_s <= full_s, pauses


@pytest.mark.parametrize(("when", "result"), [("before", Assigned.CREATED), ("after", Assigned.EXISTS)])
@pytest.mark.parametrize(("kind", "outcome"), [("drop", "dropped"), ("reset", "reset")])
def test_an_assign_without_a_response_is_repeated(
    client: OrdersClient, orders_server: ReferenceServer, kind: Kind, outcome: str, when: When, result: Assigned
) -> None:
    """The client repeats an assign that got no response, and the order is registered once."""
    orders_server.fail_next("assign_order", kind, when=when)
    assert client.assign("order-1", "executor-1", "zone-1") is result
    lost, repeated = orders_server.requests()
    assert (lost.outcome, lost.status) == (outcome, None)
    assert repeated.status == (200 if result is Assigned.CREATED else 400)
    assert (repeated.method, repeated.target, repeated.headers) == (lost.method, lost.target, lost.headers)
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]


def test_half_a_response_is_a_lost_one(client: OrdersClient, orders_server: ReferenceServer) -> None:
    """The client repeats a request whose response ends early, for each operation."""
    orders_server.fail_next("*", "truncate")
    assert client.assign("order-1", "executor-1", "zone-1") is Assigned.EXISTS
    orders_server.fail_next("*", "truncate")
    profile = client.acquire("executor-1")
    assert profile and profile.order_id == "order-1"
    orders_server.fail_next("*", "truncate")
    assert client.cancel("order-1") is Cancelled.NOT_ACTIVE
    assert [request.outcome for request in orders_server.requests()] == ["truncated", "answered"] * 3


@pytest.mark.parametrize(("when", "result"), [("before", Assigned.CREATED), ("after", Assigned.EXISTS)])
@pytest.mark.parametrize(
    ("status", "body"), [(500, "json"), (502, "html"), (503, "empty"), (504, "html"), (520, "empty")]
)
def test_an_error_of_the_service_or_a_gateway_leaves_doubt(
    client: OrdersClient, orders_server: ReferenceServer, status: int, body: Body, when: When, result: Assigned
) -> None:
    """After a 5xx the assign may have taken effect, so it is repeated, and *already exists* is a success."""
    orders_server.fail_next("assign_order", when=when, status=status, body=body)
    assert client.assign("order-1", "executor-1", "zone-1") is result
    repeated = 200 if result is Assigned.CREATED else 400
    assert outcomes(orders_server, "assign_order") == [("answered", status), ("answered", repeated)]
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]


def test_a_429_is_waited_for_and_leaves_no_doubt(
    client: OrdersClient, orders_server: ReferenceServer, pauses: list[float]
) -> None:
    """The client waits for as long as the response says. The request was refused, so *already exists* is an error."""
    orders_server.add_orders({"order_id": "order-1", "executor_id": "executor-1", "zone_id": "zone-1"})
    orders_server.fail_next("assign_order", status=429, retry_after=2, body="html")
    orders_server.fail_next("assign_order", status=429)
    with pytest.raises(OrderAlreadyExists):
        client.assign("order-1", "executor-2", "zone-1")
    waited, paused = pauses
    assert waited == 2 and paused < 1, pauses


@pytest.mark.parametrize(("status", "in_doubt"), [(429, False), (503, True)])
def test_a_wait_that_is_too_long_is_given_up(
    client: OrdersClient, orders_server: ReferenceServer, pauses: list[float], status: int, in_doubt: bool
) -> None:
    """If the response asks for a longer wait than the client allows, the client neither waits nor asks again."""
    orders_server.fail_next("cancel_order", status=status, retry_after=3600)
    with pytest.raises(GaveUp, match=f"{status} .*taken effect") as caught:
        client.cancel("order-1")
    assert caught.value.in_doubt is in_doubt
    assert (len(orders_server.requests()), pauses) == (1, [])


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("2", 2, 2), ("soon", 0, 0), ("-1", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", -1e12, 0), ("", 0, 0)],
)
def test_the_wait_that_a_response_asks_for(text: str, low: float, high: float) -> None:
    """`Retry-After` is a number of seconds or a date. Other text is ignored."""
    assert low <= retry_after_s(httpx.Response(429, headers={"Retry-After": text})) <= high
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 0 < retry_after_s(httpx.Response(503, headers={"Retry-After": in_a_minute})) <= 60


def test_after_a_lost_attempt_an_order_known_before_looks_registered(
    client: OrdersClient, orders_server: ReferenceServer
) -> None:
    """After a lost attempt, the client cannot know that another client registered the order before."""
    client.assign("order-1", "executor-1", "zone-1")
    orders_server.fail_next("assign_order", "drop")
    assert client.assign("order-1", "executor-2", "zone-1") is Assigned.EXISTS
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]


def test_a_server_that_is_away_leaves_no_doubt(pauses: list[float]) -> None:
    """If the service refuses every connection, the error says that nothing has taken effect."""
    with ReferenceServer() as server:
        url = server.url
    with (
        OrdersClient(url, sleep=pauses.append) as client,
        pytest.raises(GaveUp, match="has not taken effect") as caught,
    ):
        client.assign("order-1", "executor-1", "zone-1")
    assert not caught.value.in_doubt
    assert len(pauses) == 3


def test_an_attempt_that_reached_no_server_leaves_no_doubt() -> None:
    """If no attempt reached the server until it was back, *already exists* is an error."""
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


def test_a_closed_connection_is_replaced(pauses: list[float]) -> None:
    """After a restart of the server, the client's next call succeeds on a new connection."""
    with ReferenceServer() as server:
        client = OrdersClient(server.url, sleep=pauses.append)
        client.assign("order-1", "executor-1", "zone-1")
        port = urlsplit(server.url).port or 0
    with client, ReferenceServer(port=port) as server:
        assert client.assign("order-2", "executor-1", "zone-1") is Assigned.CREATED
        assert stored(server) == [("order-2", "executor-1", "assigned")]


def test_a_slow_assign_is_repeated(hasty_client: OrdersClient, orders_server: ReferenceServer) -> None:
    """The client repeats an assign whose response takes too long, and the order is registered once."""
    orders_server.fail_next("assign_order", "delay", delay_ms=FOR_EVER_MS, when="after")
    assert hasty_client.assign("order-1", "executor-1", "zone-1") is Assigned.EXISTS
    slow, *repeated = orders_server.requests()
    assert slow.outcome == "pending"
    assert {request.target for request in repeated} == {slow.target}
    assert stored(orders_server) == [("order-1", "executor-1", "assigned")]


def test_an_acquire_without_a_response_is_repeated(client: OrdersClient, orders_server: ReferenceServer) -> None:
    """The client repeats an acquire that got no response, and returns the profile of the first attempt."""
    client.assign("order-1", "executor-1", "zone-1")
    orders_server.fail_next("acquire_order", "drop", when="after")
    profile = client.acquire("executor-1")
    _, lost, repeated = orders_server.requests()
    assert (lost.outcome, repeated.status) == ("dropped", 200)
    assert profile and profile.order_id == "order-1"
    assert profile.acquire_time < datetime.fromisoformat(repeated.time), "the repeated attempt acquired the order"
    assert client.acquire("executor-1") == profile


@pytest.mark.parametrize(("when", "result"), [("before", Cancelled.CANCELED), ("after", Cancelled.NOT_ACTIVE)])
def test_a_cancel_without_a_response_is_repeated(
    client: OrdersClient, orders_server: ReferenceServer, when: When, result: Cancelled
) -> None:
    """The client repeats a cancel that got no response, and the order is cancelled."""
    client.assign("order-1", "executor-1", "zone-1")
    orders_server.fail_next("cancel_order", "drop", when=when)
    assert client.cancel("order-1") is result
    assert outcomes(orders_server, "cancel_order") == [("dropped", None), ("answered", 200)]
    assert stored(orders_server) == [("order-1", "executor-1", "cancelled")]


def test_a_refused_request_is_not_repeated(
    client: OrdersClient, orders_server: ReferenceServer, pauses: list[float]
) -> None:
    """The client repeats no request that was answered 400, for each operation."""
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
    """The error says what is wrong with a parameter, and nothing is stored."""
    with pytest.raises(RequestRefused, match=reason):
        client.assign("order-1", executor_id, "zone-1")
    assert stored(orders_server) == []
    assert len(orders_server.requests()) == 1


def test_a_response_outside_the_contract_is_an_error(orders_url: str, orders_server: ReferenceServer) -> None:
    """A response that is not in the contract, for example after a wrong URL, raises an error at once."""
    with OrdersClient(f"{orders_url}/wrong") as client, pytest.raises(UnexpectedAnswer, match=r"404.*Not found"):
        client.acquire("executor-1")
    (request,) = orders_server.requests()
    assert (request.operation, request.target) == (None, "/wrong/order/acquire?executor_id=executor-1")
