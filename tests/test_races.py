"""Threads that race, against one worker and against two (D12)."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, Client, message, not_active
from harness.server import ServerProcess

THREADS = 8
ROUNDS = 15


def race(service: ServerProcess, *calls: Callable[[Client], httpx.Response]) -> list[httpx.Response]:
    """Make all calls at once, each from a thread with a connection of its own; return the answers in their order."""
    answers: list[httpx.Response | None] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(index: int, call: Callable[[Client], httpx.Response]) -> None:
        with Client(service.url) as client:
            client.http.get("/health")
            barrier.wait(20)
            answers[index] = call(client)

    threads = [threading.Thread(target=run, args=(index, call)) for index, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    finished = [answer for answer in answers if answer is not None]
    assert len(finished) == len(calls), "a call was not answered"
    assert all(answer.status_code < 500 for answer in finished), [answer.text for answer in finished]
    return finished


@pytest.fixture
def racing_client(any_service: ServerProcess) -> Iterator[Client]:
    """A client that looks at the outcome of a race."""
    with Client(any_service.url) as client:
        yield client


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_of_simultaneous_assigns_of_an_order_one_says_created(
    any_service: ServerProcess, racing_client: Client, round_number: int, new_id: str
) -> None:
    """Exactly one assign of an order_id wins, and only the executor it named has the order (D12)."""
    answers = race(
        any_service, *[lambda client, n=n: client.assign(new_id, f"{new_id}-{n}", f"zone-{n}") for n in range(THREADS)]
    )
    assert Counter(map(message, answers)) == {CREATED: 1, ALREADY_EXISTS: THREADS - 1}
    winner = [message(answer) for answer in answers].index(CREATED)
    for n in range(THREADS):
        answer = racing_client.acquire(f"{new_id}-{n}")
        assert message(answer) == (ACQUIRED if n == winner else NO_ORDERS)
        if n == winner:
            assert answer.json()["order_profile"]["zone_id"] == f"zone-{n}"


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_simultaneous_assigns_to_an_executor_all_succeed(
    any_service: ServerProcess, racing_client: Client, round_number: int, new_id: str
) -> None:
    """Every assign succeeds, one after the other in some order, and the last one is the active order (D12)."""
    answers = race(any_service, *[lambda client, n=n: client.assign(f"{new_id}-{n}", new_id) for n in range(THREADS)])
    assert Counter(map(message, answers)) == {CREATED: THREADS}
    active = racing_client.acquire(new_id).json()["order_profile"]["order_id"]
    cancelled = [n for n in range(THREADS) if message(racing_client.cancel(f"{new_id}-{n}")) == CANCELED]
    assert [f"{new_id}-{n}" for n in cancelled] == [active]
    assert message(racing_client.acquire(new_id)) == NO_ORDERS


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_of_simultaneous_cancels_one_says_canceled(
    any_service: ServerProcess, racing_client: Client, round_number: int, new_id: str
) -> None:
    """Exactly one cancel of an order wins (D12)."""
    racing_client.assign(new_id, new_id)
    answers = race(any_service, *[lambda client: client.cancel(new_id)] * THREADS)
    assert Counter(map(message, answers)) == {CANCELED: 1, not_active(new_id): THREADS - 1}


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_simultaneous_acquires_get_the_same_bytes(
    any_service: ServerProcess, racing_client: Client, round_number: int, new_id: str
) -> None:
    """Whoever is first to acquire, all get the profile with the one acquire time (D4, D12)."""
    racing_client.assign(new_id, new_id)
    answers = race(any_service, *[lambda client: client.acquire(new_id)] * THREADS)
    assert {answer.content for answer in answers} == {racing_client.acquire(new_id).content}


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_cancel_against_acquire(
    any_service: ServerProcess, racing_client: Client, round_number: int, new_id: str
) -> None:
    """The cancel wins in any case; an acquire sees the order or no order, and nobody sees it afterwards (D5, D12)."""
    racing_client.assign(new_id, new_id)
    acquire, cancel = (lambda client: client.acquire(new_id)), (lambda client: client.cancel(new_id))
    answers = race(any_service, acquire, cancel, acquire, acquire)
    assert message(answers.pop(1)) == CANCELED
    assert {message(answer) for answer in answers} <= {ACQUIRED, NO_ORDERS}
    assert len({answer.content for answer in answers if message(answer) == ACQUIRED}) <= 1
    assert message(racing_client.acquire(new_id)) == NO_ORDERS


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_cancel_against_reassign(
    any_service: ServerProcess, racing_client: Client, round_number: int, new_id: str
) -> None:
    """The old order is cancelled or completed, never both, and the new one is active in any case (D2, D12)."""
    racing_client.assign(f"{new_id}-old", new_id)
    assign, *cancels = race(
        any_service,
        lambda client: client.assign(f"{new_id}-new", new_id),
        *[lambda client: client.cancel(f"{new_id}-old")] * 3,
    )
    assert message(assign) == CREATED
    assert [message(cancel) for cancel in cancels].count(CANCELED) <= 1
    assert message(racing_client.cancel(f"{new_id}-old")) == not_active(f"{new_id}-old")
    assert racing_client.acquire(new_id).json()["order_profile"]["order_id"] == f"{new_id}-new"
