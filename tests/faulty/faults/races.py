"""Faults in races: in each, other requests can come between a check and the action that relies on it."""

from tests.faulty.catalogue import Faults
from tests.faulty.faults.helpers import pause
from tests.faulty.implementation import (
    ACQUIRE_PATH,
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    Connection,
    Profile,
    Request,
    Response,
    Store,
)

faults = Faults()


@faults.breaks("RACE-1")
class AssignLooksFirst(Store):
    """Assign checks whether the order is known before it takes the lock: several clients are told `created`."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if self.find(order_id):
            return False
        pause()
        with self.lock:
            self.register(self.new_order(order_id, executor_id, zone_id))
        return True


@faults.breaks("RACE-1")
class AssignReservesFirst(Store):
    """Assign announces the order and then looks for other announcements: no client is told `created`."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: list[str] = []

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        self.announced.append(order_id)
        pause()
        is_alone = self.announced.count(order_id) == 1
        pause()
        self.announced.remove(order_id)
        return is_alone and super().assign(order_id, executor_id, zone_id)


@faults.breaks("RACE-2")
class AssignCompletesStaleOrder(Store):
    """Assign looks up the order to complete before it takes the lock: an executor gets two active orders."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        active = self.active_order(executor_id)
        pause()
        with self.lock:
            if self.find(order_id):
                return False
            if active and active.is_active:
                self.end(active, COMPLETED)
            self.add(self.new_order(order_id, executor_id, zone_id))
            return True


@faults.breaks("RACE-2")
class AssignGivesUp(Store):
    """Assign answers `already exists` if the executor got another order meanwhile."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        active = self.active_order(executor_id)
        pause()
        with self.lock:
            return self.active_order(executor_id) is active and super().assign(order_id, executor_id, zone_id)


@faults.breaks("RACE-2")
class AssignsCompleteEachOther(Store):
    """Assign registers the new order and then completes the executor's other one: no order stays active."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if not super().assign(order_id, executor_id, zone_id):
            return False
        pause()
        with self.lock:
            active = self.active_order(executor_id)
            if active and active.order_id != order_id:
                self.end(active, COMPLETED)
        return True


@faults.breaks("RACE-3")
class CancelLooksFirst(Store):
    """Cancel checks whether the order is active before it takes the lock: several clients are told `canceled`."""

    def cancel(self, order_id: str) -> bool:
        order = self.find(order_id)
        if order is None or not order.is_active:
            return False
        pause()
        with self.lock:
            self.end(order, CANCELLED)
        return True


@faults.breaks("RACE-4")
class AcquireLooksFirst(Store):
    """Acquire checks whether the order is acquired before it takes the lock: `acquire_time` changes."""

    def acquire(self, executor_id: str) -> Profile | None:
        order = self.active_order(executor_id)
        if order is None or order.execution_status != ASSIGNED:
            return super().acquire(executor_id)
        pause()
        with self.lock:
            if not order.is_active:
                return None
            self.mark_acquired(order)
            return self.profile(order)


@faults.breaks("RACE-4")
class AcquireSkipsLocked(Store):
    """Acquire skips an order that another acquire is reading: one of two simultaneous clients gets no order."""

    def __init__(self) -> None:
        super().__init__()
        self.busy: set[str] = set()

    def acquire(self, executor_id: str) -> Profile | None:
        order = self.active_order(executor_id)
        if order is None or order.execution_status != ASSIGNED:
            return super().acquire(executor_id)
        if order.order_id in self.busy:
            return None
        self.busy.add(order.order_id)
        pause()
        self.busy.discard(order.order_id)
        return super().acquire(executor_id)


@faults.breaks("RACE-5")
class AcquireWritesBack(Store):
    """The first acquire writes the whole order back, which revives an order that was cancelled meanwhile."""

    def acquire(self, executor_id: str) -> Profile | None:
        order = self.active_order(executor_id)
        if order and order.execution_status == ASSIGNED:
            pause()
            with self.lock:
                self.mark_acquired(order)
                self.active[executor_id] = order
        return super().acquire(executor_id)


@faults.breaks("RACE-5")
class CancelGivesUp(Store):
    """Cancel answers `does not exist` if the order was acquired meanwhile."""

    def cancel(self, order_id: str) -> bool:
        order = self.find(order_id)
        status = order.execution_status if order else ""
        pause()
        with self.lock:
            return order is not None and order.execution_status == status and super().cancel(order_id)


@faults.breaks("RACE-6")
class CancelFreesReassigned(Store):
    """Cancel of an order that was completed meanwhile takes the executor's new order away."""

    def cancel(self, order_id: str) -> bool:
        order = self.find(order_id)
        if order is None or not order.is_active:
            return False
        pause()
        with self.lock:
            if order.execution_status == CANCELLED:
                return False
            order.execution_status = CANCELLED
            self.active.pop(order.executor_id, None)
            return True


@faults.breaks("RACE-7")
class AssignInTwoSteps(Store):
    """Assign completes the old order in one step and adds the new one in another: between them there is none."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if self.find(order_id):
                return False
            if active := self.active_order(executor_id):
                self.end(active, COMPLETED)
            order = self.orders[order_id] = self.new_order(order_id, executor_id, zone_id)
        pause()
        with self.lock:
            if order.is_active:
                self.register(order)
        return True


@faults.breaks("RACE-7")
class AssignsOverwriteEachOther(Store):
    """Assign changes a copy of all active orders and puts it back: what others did meanwhile is lost."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        active = dict(self.active)
        pause()
        with self.lock:
            self.active = active
            return super().assign(order_id, executor_id, zone_id)


@faults.breaks("RACE-7")
class CachedPerConnection(Connection):
    """Each connection caches the answers to acquire until it carries a request of another kind."""

    def setup(self) -> None:
        super().setup()
        self.cache: dict[bytes, Response] = {}

    def answer(self, request: Request) -> Response:
        if request.path != ACQUIRE_PATH:
            self.cache.clear()
        if request.method != "GET":
            return super().answer(request)
        if request.query not in self.cache:
            self.cache[request.query] = super().answer(request)
        return self.cache[request.query]
