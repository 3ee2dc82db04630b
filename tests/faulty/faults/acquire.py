"""Faults of acquire: its answers, repeated or not."""

import threading
import time
from dataclasses import replace
from hashlib import sha256

from tests.faulty.catalogue import Faults
from tests.faulty.implementation import ACQUIRE_PATH, ASSIGNED, COMPLETED, Api, Order, Profile, Request, Response, Store

faults = Faults()


@faults.breaks("ACQUIRE-1")
class AcquiredMisspelled(Api):
    """Acquire answers `Succesfully acquired`."""

    ACQUIRED = 200, "Succesfully acquired"


@faults.breaks("ACQUIRE-1")
class AcquiredIs202(Api):
    """Acquire answers 202 with an order."""

    ACQUIRED = 202, Api.ACQUIRED[1]


@faults.breaks("ACQUIRE-1")
class ProfileUnwrapped(Api):
    """Acquire puts the properties of the order beside the message instead of into `order_profile`."""

    def acquired(self, profile: Profile) -> Response:
        return self.reply(self.ACQUIRED, **profile)


@faults.breaks("ACQUIRE-1")
class ProfileMisnamed(Api):
    """Acquire calls the order `orderProfile`."""

    def acquired(self, profile: Profile) -> Response:
        return self.reply(self.ACQUIRED, orderProfile=profile)


@faults.breaks("ACQUIRE-1")
class ExecutorAndZoneSwapped(Store):
    """Acquire swaps `executor_id` and `zone_id` in the profile."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "executor_id": order.zone_id, "zone_id": order.executor_id}


@faults.breaks("ACQUIRE-1", "ASSIGN-3", "CANCEL-1")
class AssignedLater(Api):
    """Assign answers before it registers the order, so that an acquire soon after does not find it."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Response:
        if self.store.find(order_id):
            return self.reply(self.ALREADY_EXISTS)
        timer = threading.Timer(0.05, self.store.assign, (order_id, executor_id, zone_id))
        timer.daemon = True
        timer.start()
        return self.reply(self.CREATED)


@faults.breaks("ACQUIRE-1")
class NoOrdersIsRemembered(Store):
    """Acquire remembers for a second that an executor has no order, even if they are assigned one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, float] = {}

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            if time.monotonic() - self.asked.get(executor_id, 0) < 1:
                return None
            profile = super().acquire(executor_id)
            if profile is None:
                self.asked[executor_id] = time.monotonic()
            return profile


@faults.breaks("ACQUIRE-2")
class AcquireMissingMisspelled(Api):
    """If `executor_id` is missing, the message of acquire names `executorId`."""

    ACQUIRE_MISSING = 400, "Missing parameters, please provide executorId"


@faults.breaks("ACQUIRE-2")
class AcquireMissingIs404(Api):
    """If `executor_id` is missing, acquire answers 404."""

    ACQUIRE_MISSING = 404, Api.ACQUIRE_MISSING[1]


@faults.breaks("ACQUIRE-2")
class AcquireMissingHasNoOrders(Api):
    """If `executor_id` is missing, acquire answers that there are no orders."""

    ACQUIRE_MISSING = Api.NO_ORDERS


@faults.breaks("ACQUIRE-3")
class NoOrdersMisspelled(Api):
    """Acquire answers `There are no orders assigned to you.`, with a full stop."""

    NO_ORDERS = 200, "There are no orders assigned to you."


@faults.breaks("ACQUIRE-3")
class NoOrdersIs404(Api):
    """Acquire answers 404 if the executor has no order."""

    NO_ORDERS = 404, Api.NO_ORDERS[1]


@faults.breaks("ACQUIRE-3")
class NoOrdersIs204(Api):
    """Acquire answers 204 without a body if the executor has no order."""

    def no_orders(self, executor_id: str) -> Response:
        return replace(super().no_orders(executor_id), status=204, content=b"")


@faults.breaks("ACQUIRE-3")
class NoOrdersWithNullProfile(Api):
    """Acquire adds an `order_profile` of null if the executor has no order."""

    def no_orders(self, executor_id: str) -> Response:
        return self.reply(self.NO_ORDERS, order_profile=None)


@faults.breaks("ACQUIRE-3")
class UnknownExecutorIs400(Api):
    """Acquire refuses an executor who was never assigned an order."""

    def no_orders(self, executor_id: str) -> Response:
        known = any(order.executor_id == executor_id for order in list(self.store.orders.values()))
        return super().no_orders(executor_id) if known else self.reply((400, "Unknown executor"))


@faults.breaks("ACQUIRE-3")
class AcquireTakesFromAnother(Store):
    """Acquire gives an executor without an order the newest active order of another executor."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            if self.active_order(executor_id) is None:
                executor_id = next(reversed(self.active), executor_id)
            return super().acquire(executor_id)


@faults.breaks("ACQUIRE-4")
class AcquireTimeMoves(Store):
    """Every acquire sets `acquire_time` to the current time."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            if (order := self.active_order(executor_id)) and order.acquire_time:
                self.mark_acquired(order)
            return super().acquire(executor_id)


@faults.breaks("ACQUIRE-4")
class AcquiredOnlyOnce(Store):
    """Acquire returns an order once; every later acquire answers that there are no orders."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            order = self.active_order(executor_id)
            return super().acquire(executor_id) if order and order.execution_status == ASSIGNED else None


@faults.breaks("ACQUIRE-4", "CANCEL-4")
class AcquireCompletes(Store):
    """Acquire completes the order."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            profile = super().acquire(executor_id)
            if order := self.active_order(executor_id):
                self.end(order, COMPLETED)
            return profile


@faults.breaks("ACQUIRE-4", "ACQUIRE-5")
class FirstProfileIsAssigned(Store):
    """The first acquire shows the status `assigned`, because it reads the profile before it updates the order."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            order = self.active_order(executor_id)
            before = order.execution_status if order else ""
            profile = super().acquire(executor_id)
            return profile and {**profile, "execution_status": before}


@faults.breaks("ACQUIRE-4")
class PropertiesInAnyOrder(Store):
    """Acquire returns the properties of the profile in a different order each time."""

    def profile(self, order: Order) -> Profile:
        profile = super().profile(order)
        names = sorted(profile, key=lambda name: sha256(f"{name} {time.monotonic_ns()}".encode()).digest())
        return {name: profile[name] for name in names}


@faults.breaks("ACQUIRE-4")
class UuidPerAnswer(Store):
    """Every acquire makes a new `assigned_order_id`."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "assigned_order_id": self.new_uuid()}


@faults.breaks("ACQUIRE-8")
class WithoutCacheControl(Api):
    """Every answer lacks `Cache-Control`."""

    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json"}


@faults.breaks("ACQUIRE-8")
class CachedForAMinute(Api):
    """Acquire lets caches keep an order for a minute."""

    def acquired(self, profile: Profile) -> Response:
        response = super().acquired(profile)
        response.headers["Cache-Control"] = "max-age=60"
        return response


@faults.breaks("ACQUIRE-8")
class NoOrdersMayBeCached(Api):
    """Acquire sends `Cache-Control` only with an order."""

    def no_orders(self, executor_id: str) -> Response:
        response = super().no_orders(executor_id)
        del response.headers["Cache-Control"]
        return response


@faults.breaks("ACQUIRE-9")
class WithEtag(Api):
    """Acquire sends an `ETag` with an order."""

    def acquired(self, profile: Profile) -> Response:
        response = super().acquired(profile)
        response.headers["ETag"] = f'"{sha256(response.content).hexdigest()}"'
        return response


@faults.breaks("ACQUIRE-9")
class NotModified(Api):
    """Acquire answers 304 if the client sends the `ETag` of the answer."""

    def route(self, request: Request) -> Response:
        response = super().route(request)
        if request.path == ACQUIRE_PATH and response.status == 200:
            response.headers["ETag"] = f'"{sha256(response.content).hexdigest()}"'
            if request.headers.get("if-none-match") in (response.headers["ETag"], "*"):
                return replace(response, status=304, content=b"")
        return response
