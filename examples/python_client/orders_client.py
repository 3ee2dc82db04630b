"""A client of the orders service that repeats its requests safely: `OrdersClient`.

    with OrdersClient("http://127.0.0.1:8080") as client:
        client.assign("order-1", "executor-1", "zone-1")
        profile = client.acquire("executor-1")
        client.cancel("order-1")

Every operation may be repeated, so the client sends the same request again when the connection failed, when it timed
out, and when the answer was a 500: a few times, and more slowly each time. It never repeats what was answered 400.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Self

import httpx

CREATED = "Successfully created"
ALREADY_EXISTS = "AssignedOrder with provided orderId already exists"
ACQUIRED = "Successfully acquired"
NO_ORDERS = "There are no orders assigned to you"
CANCELED = "Successfully canceled"
NOT_ACTIVE = "AssignedOrder with OrderId {order_id} does not exist or has already been canceled"

# What a failed attempt raises if the service has never seen the request, and if it may have.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
LOST = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)


class OrdersError(Exception):
    """An operation that did not succeed; the message says what was sent and what came back."""


class OrderAlreadyExists(OrdersError):
    """The order was known before it was assigned; nothing has changed."""


class RequestRefused(OrdersError):
    """The service refused the request with 400, for a parameter that is missing or invalid; nothing has changed."""


class GaveUp(OrdersError):
    """Every attempt failed; all the same, the operation may have taken place.

    An assign that is called again later may therefore raise OrderAlreadyExists for what this call has registered.
    """


class UnexpectedAnswer(OrdersError):
    """An answer that the service's contract does not have."""


class Assigned(Enum):
    """What is known of an order after its assignment. It is registered in both cases."""

    CREATED = "created"
    """By this call."""
    EXISTS = "exists"
    """By an attempt of this call whose answer was lost, or before this call: nobody can tell which."""


class Cancelled(Enum):
    """What is known of an order after its cancellation. It is not active in both cases."""

    CANCELED = "canceled"
    """By this call."""
    NOT_ACTIVE = "not active"
    """By an attempt whose answer was lost, or before this call; or it was completed, or it never existed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderProfile:
    """An acquired order, as the service describes it; the times are in UTC."""

    assigned_order_id: str
    order_id: str
    executor_id: str
    zone_id: str
    execution_status: str
    assign_time: datetime
    acquire_time: datetime


@dataclass(frozen=True, slots=True)
class Retries:
    """How often an attempt is made, and how long the pauses between attempts are.

    Each pause is twice as long as the one before, up to `longest_pause_s` seconds. Of that a random part, a half at
    most, is taken off, so that clients whose requests failed together do not come back together.
    """

    attempts: int = 4
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0

    def pause_s(self, attempt: int) -> float:
        """Return how many seconds to wait after an attempt that failed; 1 is the first."""
        pause_s: float = min(self.first_pause_s * 2 ** (attempt - 1), self.longest_pause_s)
        return pause_s * random.uniform(0.5, 1)


DEFAULT_RETRIES = Retries()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, and whether an earlier attempt at it may have taken place."""

    request: str
    status: int
    content: Any
    in_doubt: bool

    @property
    def message(self) -> Any:
        """The answer's message, or None if it has none."""
        return self.content.get("message") if isinstance(self.content, dict) else None

    def error(self) -> OrdersError:
        """Return the error of a request that has this answer, and should not."""
        return (RequestRefused if self.status == 400 else UnexpectedAnswer)(str(self))

    def __str__(self) -> str:
        return f"{self.request} was answered {self.status} {self.content!r}"


class OrdersClient:
    """The three operations of the orders service. Safe to use from several threads.

    Each raises RequestRefused if a parameter is missing or invalid, GaveUp if every attempt failed, and
    UnexpectedAnswer for what is not in the contract; all of them are OrdersErrors.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 2.0,
        retries: Retries = DEFAULT_RETRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare a client of the service at `url`.

        An attempt fails when connecting, or the next part of the answer, takes more than `timeout_s` seconds. Between
        attempts the client calls `sleep` with the seconds to wait.
        """
        # Without retries of httpx itself, which are off by default: it would make them unseen, and only of connecting.
        self._http = httpx.Client(base_url=url, timeout=timeout_s, headers={"User-Agent": "orders-client/0.1.0"})
        self._retries = retries
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Assigned:
        """Register an order as assigned to an executor, whose active order is completed by that.

        Raises OrderAlreadyExists if the order was known already. That is certain as long as no attempt may have
        registered it unheard; after one that may have, *already exists* is a success, Assigned.EXISTS.
        """
        parameters = {"order_id": order_id, "executor_id": executor_id, "zone_id": zone_id}
        answer = self._send("PUT", "/orders/assign", parameters)
        if (answer.status, answer.message) == (200, CREATED):
            return Assigned.CREATED
        if (answer.status, answer.message) == (400, ALREADY_EXISTS):
            if answer.in_doubt:
                return Assigned.EXISTS
            raise OrderAlreadyExists(str(answer))
        raise answer.error()

    def acquire(self, executor_id: str) -> OrderProfile | None:
        """Return the executor's active order, which is acquired by that, or None if there is none: poll again later."""
        answer = self._send("GET", "/order/acquire", {"executor_id": executor_id})
        if (answer.status, answer.message) == (200, ACQUIRED):
            profile = answer.content["order_profile"]
            times = {name: datetime.fromisoformat(profile[name]) for name in ("assign_time", "acquire_time")}
            return OrderProfile(**{**profile, **times})
        if (answer.status, answer.message) == (200, NO_ORDERS):
            return None
        raise answer.error()

    def cancel(self, order_id: str) -> Cancelled:
        """Cancel an order if it is active."""
        answer = self._send("POST", "/order/cancel", {"order_id": order_id})
        if (answer.status, answer.message) == (200, CANCELED):
            return Cancelled.CANCELED
        if (answer.status, answer.message) == (200, NOT_ACTIVE.format(order_id=order_id)):
            return Cancelled.NOT_ACTIVE
        raise answer.error()

    def _send(self, method: str, path: str, parameters: dict[str, str]) -> Answer:
        """Send a request, and the same again after each attempt that failed; return the answer. Raises GaveUp."""
        request = self._http.build_request(method, path, params=parameters)
        name = f"{method} {request.url}"
        in_doubt = False
        attempt = 0
        while True:
            attempt += 1
            cause: Exception | None = None
            try:
                response = self._http.send(request)
            except NOT_SENT as error:
                failure, cause = repr(error), error
            except LOST as error:
                failure, cause, in_doubt = repr(error), error, True
            else:
                if response.status_code != 500:
                    return Answer(name, response.status_code, content_of(response), in_doubt)
                failure, in_doubt = f"500 {content_of(response)!r}", True
            if attempt >= self._retries.attempts:
                raise GaveUp(f"{name} failed {attempt} times, at last with {failure}") from cause
            self._sleep(self._retries.pause_s(attempt))


def content_of(response: httpx.Response) -> Any:
    """Return what an answer says: its JSON, or its text if it is something else."""
    try:
        return response.json()
    except ValueError:
        return response.text
