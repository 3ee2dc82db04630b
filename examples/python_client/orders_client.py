"""A client of the orders service that repeats failed requests: `OrdersClient`.

    with OrdersClient("http://127.0.0.1:8080") as client:
        client.assign("order-1", "executor-1", "zone-1")
        profile = client.acquire("executor-1")
        client.cancel("order-1")

Every operation may be repeated. So the client sends the same request again, a few times, with growing pauses:

    refused connection ........................... it was never sent
    429 .......................................... it was not carried out; wait for as long as `Retry-After` says
    lost, late or half a response, or a 5xx ...... in doubt: it may have taken effect

A gateway in front of the service sends a 502, 503 or 504 before the service has answered, or after. So these are as
much in doubt as a lost response. The client never repeats a request that was answered 400.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Self

import httpx

CREATED = "Successfully created"
ALREADY_EXISTS = "AssignedOrder with provided orderId already exists"
ACQUIRED = "Successfully acquired"
NO_ORDERS = "There are no orders assigned to you"
CANCELED = "Successfully canceled"
NOT_ACTIVE = "AssignedOrder with OrderId {order_id} does not exist or has already been canceled"

# The exceptions of an attempt that never reached the service, and of one that may have reached it.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
LOST = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)


class OrdersError(Exception):
    """An operation failed. The message has the request and the response."""


class OrderAlreadyExists(OrdersError):
    """The order was already known. Nothing has changed."""


class RequestRefused(OrdersError):
    """The service answered 400, because a parameter is missing or invalid. Nothing has changed."""


class GaveUp(OrdersError):
    """Every attempt failed. With `in_doubt`, the operation may have taken effect; otherwise it has not.

    So if `assign` is called again later, it may raise OrderAlreadyExists for an order that this call registered.
    """

    def __init__(self, message: str, *, in_doubt: bool) -> None:
        super().__init__(f"{message}; it {'may have' if in_doubt else 'has not'} taken effect")
        self.in_doubt = in_doubt


class UnexpectedAnswer(OrdersError):
    """The response is not in the service's contract."""


class Assigned(Enum):
    """The result of an assign. In both cases, the order is registered."""

    CREATED = "created"
    """This call registered the order."""
    EXISTS = "exists"
    """An attempt in doubt registered the order, or it was known before: the client cannot know."""


class Cancelled(Enum):
    """The result of a cancel. In both cases, the order is not active."""

    CANCELED = "canceled"
    """This call cancelled the order."""
    NOT_ACTIVE = "not active"
    """The order was cancelled before or by an attempt in doubt, was completed, or never existed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderProfile:
    """An acquired order. The times are in UTC."""

    assigned_order_id: str
    order_id: str
    executor_id: str
    zone_id: str
    execution_status: str
    assign_time: datetime
    acquire_time: datetime


@dataclass(frozen=True, slots=True)
class Retries:
    """The number of attempts, and the pauses between them.

    Each pause is twice as long as the one before, up to `longest_pause_s` seconds. A random part of each pause, at most
    half of it, is cut off. So clients whose requests failed at the same time do not repeat them at the same time. A
    pause is longer if the response's `Retry-After` says so. If that is more than `longest_wait_s`, the client gives up.
    """

    attempts: int = 4
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    longest_wait_s: float = 10.0

    def pause_s(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt. The first attempt is 1."""
        pause_s: float = min(self.first_pause_s * 2 ** (attempt - 1), self.longest_pause_s)
        return pause_s * random.uniform(0.5, 1)


DEFAULT_RETRIES = Retries()


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a request. With `in_doubt`, an earlier attempt may have taken effect."""

    request: str
    status: int
    content: Any
    in_doubt: bool

    @property
    def message(self) -> Any:
        """The message, or None if the response has none."""
        return self.content.get("message") if isinstance(self.content, dict) else None

    def error(self) -> OrdersError:
        """Return the exception for an unexpected response."""
        return (RequestRefused if self.status == 400 else UnexpectedAnswer)(str(self))

    def __str__(self) -> str:
        return f"{self.request} was answered {self.status} {self.content!r}"


class OrdersClient:
    """A client of the three operations. Several threads may use it.

    Each operation raises RequestRefused if a parameter is missing or invalid, GaveUp if every attempt failed, and
    UnexpectedAnswer if the response is not in the contract. All of these are OrdersErrors.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 2.0,
        retries: Retries = DEFAULT_RETRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create a client of the service at `url`.

        An attempt fails if connecting, or the next part of the response, takes more than `timeout_s` seconds. Between
        attempts, the client calls `sleep` with the seconds to wait.
        """
        # httpx's own retries stay off, which is the default. This client must count every attempt itself.
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
        """Assign an order to an executor, which completes the executor's active order.

        Raises OrderAlreadyExists if the order was known before. After an attempt in doubt, nobody can know that: then
        *already exists* is a success, Assigned.EXISTS.
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
        """Acquire the executor's active order and return it, or None if there is none: poll again later."""
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
        """Send a request, and repeat it after each failed attempt; return the first response that is not a failure.

        Raises GaveUp.
        """
        request = self._http.build_request(method, path, params=parameters)
        name = f"{method} {request.url}"
        in_doubt = False
        attempt = 0
        while True:
            attempt += 1
            cause: Exception | None = None
            wait_s = 0.0
            try:
                response = self._http.send(request)
            except NOT_SENT as error:
                failure, cause = repr(error), error
            except LOST as error:
                failure, cause, in_doubt = repr(error), error, True
            else:
                status, content = response.status_code, content_of(response)
                if status < 500 and status != 429:
                    return Answer(name, status, content, in_doubt)
                failure, in_doubt = f"{status} {content!r}", in_doubt or status != 429
                wait_s = retry_after_s(response)
            if attempt >= self._retries.attempts or wait_s > self._retries.longest_wait_s:
                message = f"{name} failed {attempt} times, last with {failure}"
                raise GaveUp(message, in_doubt=in_doubt) from cause
            self._sleep(max(self._retries.pause_s(attempt), wait_s))


def content_of(response: httpx.Response) -> Any:
    """Return the JSON of a response, or its text if it is not JSON."""
    try:
        return response.json()
    except ValueError:
        return response.text


def retry_after_s(response: httpx.Response) -> float:
    """Return the seconds that a response asks to wait, or 0. `Retry-After` is a number or a date (RFC 9110 §10.2.3)."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
