"""Faults of the lifecycle: orders that end wrongly, come back, or change with another order."""

import itertools
import json
import threading
from datetime import UTC, datetime, timedelta

from tests.faulty.catalogue import Faults
from tests.faulty.faults.helpers import RefusedAssign, query_fields
from tests.faulty.implementation import (
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    Api,
    Operation,
    Order,
    Profile,
    Request,
    Response,
    Store,
)

faults = Faults()


def is_expired(order: Order) -> bool:
    """Return whether an order was assigned more than three seconds ago."""
    return datetime.now(UTC) - datetime.fromisoformat(order.assign_time) > timedelta(seconds=3)


@faults.breaks("LIFE-1")
class BusyIsRefused(Api):
    """Assign refuses a new order for an executor who has an active one."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Response:
        with self.store.lock:
            if self.store.active_order(executor_id) and not self.store.find(order_id):
                return self.reply((400, "Executor is busy"))
            return super().assign(order_id, executor_id, zone_id)


@faults.breaks("LIFE-1")
class OrdersQueue(Store):
    """An executor's orders form a queue: the oldest one stays active until it is cancelled."""

    def active_order(self, executor_id: str) -> Order | None:
        own = (order for order in self.orders.values() if order.executor_id == executor_id and order.is_active)
        return next(own, None)

    def register(self, order: Order) -> None:
        self.add(order)


@faults.breaks("LIFE-1")
class OldOrderStaysActive(Store):
    """Assign does not complete the executor's old order, so that it can still be cancelled."""

    def register(self, order: Order) -> None:
        self.add(order)


@faults.breaks("LIFE-1")
class OnlyAcquiredIsCompleted(Store):
    """Assign completes the executor's old order only if it was acquired."""

    def register(self, order: Order) -> None:
        active = self.active_order(order.executor_id)
        if active and active.execution_status == ASSIGNED:
            self.add(order)
        else:
            super().register(order)


@faults.breaks("LIFE-1")
class NewOrderIsDropped(Store):
    """Assign answers 200 but drops the new order if the executor has an active one."""

    def register(self, order: Order) -> None:
        if self.active_order(order.executor_id):
            self.orders[order.order_id] = order
        else:
            super().register(order)


@faults.breaks("LIFE-1")
class FourthOrderCompletesNothing(Store):
    """Assign does not complete the old order from an executor's fourth order on."""

    def register(self, order: Order) -> None:
        own = sum(other.executor_id == order.executor_id for other in self.orders.values())
        if own < 3:
            super().register(order)
        else:
            self.add(order)


@faults.breaks("LIFE-2")
class CancelledIsHandedOut(Store):
    """Acquire still returns an order that was cancelled."""

    def end(self, order: Order, status: str) -> None:
        if status == CANCELLED:
            order.execution_status = CANCELLED
        else:
            super().end(order, status)


@faults.breaks("LIFE-2")
class AcquiredIsRemembered(Store):
    """Acquire caches the order that it returns, and returns it again after it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Profile] = {}

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            if executor_id not in self.cache and (profile := super().acquire(executor_id)):
                self.cache[executor_id] = profile
            return self.cache.get(executor_id)

    def register(self, order: Order) -> None:
        self.cache.pop(order.executor_id, None)
        super().register(order)


@faults.breaks("LIFE-2")
class CancelBlocksExecutor(Store):
    """Cancel does not free the executor: acquire never returns their next order."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: set[str] = set()

    def acquire(self, executor_id: str) -> Profile | None:
        return None if executor_id in self.blocked else super().acquire(executor_id)

    def end(self, order: Order, status: str) -> None:
        super().end(order, status)
        if status == CANCELLED:
            self.blocked.add(order.executor_id)


@faults.breaks("LIFE-2")
class CancelLeavesExecutorBusy(Api):
    """Assign counts an executor whose order was cancelled as busy, and refuses a new order."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Response:
        with self.store.lock:
            own = [order for order in self.store.orders.values() if order.executor_id == executor_id]
            if own and own[-1].execution_status == CANCELLED and not self.store.find(order_id):
                return self.reply((400, "Executor is busy"))
            return super().assign(order_id, executor_id, zone_id)


@faults.breaks("LIFE-2")
class SecondCancelIsLost(Store):
    """The second cancel of an executor's orders succeeds, but leaves the order with the executor."""

    def end(self, order: Order, status: str) -> None:
        own = (other for other in self.orders.values() if other.executor_id == order.executor_id)
        if status == CANCELLED and any(other.execution_status == CANCELLED for other in own):
            order.execution_status = CANCELLED
        else:
            super().end(order, status)


@faults.breaks("LIFE-3")
class OldOrderResurfaces(Store):
    """Cancel makes the executor's previous, completed order active again."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            cancelled = super().cancel(order_id)
            if cancelled:
                executor_id = self.orders[order_id].executor_id
                for order in reversed(self.orders.values()):
                    if order.executor_id == executor_id and order.execution_status == COMPLETED:
                        order.execution_status = ASSIGNED
                        self.active[executor_id] = order
                        break
            return cancelled


@faults.breaks("LIFE-3")
class RepeatRevivesCancelled(RefusedAssign):
    """A refused assign makes a cancelled order active again."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        if known.execution_status == CANCELLED:
            known.execution_status = ASSIGNED
            self.register(known)


@faults.breaks("LIFE-3")
class RepeatRevivesCompleted(RefusedAssign):
    """A refused assign makes a completed order active again."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        if known.execution_status == COMPLETED:
            known.execution_status = ASSIGNED
            self.register(known)


@faults.breaks("LIFE-4", "LIFE-1")
class CancelGoesByExecutor(Store):
    """Cancel cancels the active order of the order's executor instead of the order itself."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            active = self.active_order(order.executor_id) if order else None
            return active is not None and super().cancel(active.order_id)


@faults.breaks("LIFE-4")
class CancelOfCompletedFreesExecutor(Store):
    """Cancel of a completed order answers correctly, but takes the executor's newer order away."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            if order and order.execution_status == COMPLETED:
                self.active.pop(order.executor_id, None)
            return super().cancel(order_id)


@faults.breaks("LIFE-4")
class CancelGoesByPrefix(Store):
    """Cancel also cancels all orders whose ids begin with the given id."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            cancelled = super().cancel(order_id)
            for other in [other for other in self.orders if other.startswith(order_id)]:
                super().cancel(other)
            return cancelled


@faults.breaks("LIFE-4")
class AssignCompletesTheZone(Store):
    """Assign completes all active orders in the zone."""

    def register(self, order: Order) -> None:
        for other in [other for other in self.active.values() if other.zone_id == order.zone_id]:
            self.end(other, COMPLETED)
        super().register(order)


@faults.breaks("ASSIGN-3", "ACQUIRE-1", "CANCEL-1")
class OrdersPerProcess(Store):
    """Two processes take the connections in turn, and each has orders of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stores = itertools.cycle((Store(), Store()))
        # Each connection has a thread.
        self.local = threading.local()

    def of_connection(self) -> Store:
        """Return the store of the process that has taken this connection."""
        with self.lock:
            if not hasattr(self.local, "store"):
                self.local.store = next(self.stores)
        store: Store = self.local.store
        return store

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        return self.of_connection().assign(order_id, executor_id, zone_id)

    def acquire(self, executor_id: str) -> Profile | None:
        return self.of_connection().acquire(executor_id)

    def cancel(self, order_id: str) -> bool:
        return self.of_connection().cancel(order_id)


@faults.breaks("LIFE-5")
class MissingZoneRegisters(Api):
    """Assign answers that the zone is missing, but registers the order."""

    def run(self, operation: Operation, request: Request) -> Response:
        given = query_fields(request)
        if operation.method == "PUT" and {"order_id", "executor_id"} <= given.keys() and "zone_id" not in given:
            self.store.assign(given["order_id"], given["executor_id"], "")
        return super().run(operation, request)


@faults.breaks("LIFE-5")
class InvalidZoneRegisters(Api):
    """Assign answers that the zone is invalid, but registers the order."""

    def run(self, operation: Operation, request: Request) -> Response:
        response = super().run(operation, request)
        if json.loads(response.content)["message"].startswith("Invalid parameter zone_id"):
            given = query_fields(request)
            self.store.assign(given["order_id"], given["executor_id"], given["zone_id"])
        return response


@faults.breaks("LIFE-5")
class MissingZoneCompletes(Api):
    """Assign answers that the zone is missing, but completes the executor's active order."""

    def run(self, operation: Operation, request: Request) -> Response:
        given = query_fields(request)
        if operation.method == "PUT" and "zone_id" not in given:
            with self.store.lock:
                if active := self.store.active_order(given.get("executor_id", "")):
                    self.store.end(active, COMPLETED)
        return super().run(operation, request)


@faults.breaks("LIFE-5")
class InvalidCancelCancels(Api):
    """Cancel answers that the order is given more than once, but cancels it."""

    def run(self, operation: Operation, request: Request) -> Response:
        response = super().run(operation, request)
        if operation.method == "POST" and response.status == 400:
            self.store.cancel(query_fields(request).get("order_id", ""))
        return response


@faults.breaks("LIFE-7")
class OldestIsForgotten(Store):
    """The server remembers only the newest 500 orders."""

    def add(self, order: Order) -> None:
        super().add(order)
        if len(self.orders) > 500:
            oldest = self.orders.pop(next(iter(self.orders)))
            if self.active_order(oldest.executor_id) is oldest:
                del self.active[oldest.executor_id]


@faults.breaks("LIFE-7")
class OrderExpires(Store):
    """Acquire no longer returns an order three seconds after it was assigned."""

    def active_order(self, executor_id: str) -> Order | None:
        order = super().active_order(executor_id)
        return None if order and is_expired(order) else order


@faults.breaks("LIFE-7")
class KnownExpires(Store):
    """The server forgets an inactive order three seconds after it was assigned."""

    def find(self, order_id: str) -> Order | None:
        order = super().find(order_id)
        return None if order and not order.is_active and is_expired(order) else order
