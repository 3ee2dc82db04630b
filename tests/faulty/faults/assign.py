"""Faults of assign."""

from collections.abc import Sequence

from tests.faulty.catalogue import Faults
from tests.faulty.faults.helpers import RefusedAssign, query_fields
from tests.faulty.implementation import ASSIGNED, COMPLETED, Api, Operation, Order, Parameters, Request, Response, Store

faults = Faults()


@faults.breaks("ASSIGN-1")
class CreatedMisspelled(Api):
    """Assign answers `Succesfully created`."""

    CREATED = 200, "Succesfully created"


@faults.breaks("ASSIGN-1")
class CreatedWithFullStop(Api):
    """Assign answers `Successfully created.`, with a full stop."""

    CREATED = 200, "Successfully created."


@faults.breaks("ASSIGN-1")
class CreatedIs201(Api):
    """Assign answers a new order with 201."""

    CREATED = 201, "Successfully created"


@faults.breaks("ASSIGN-1")
class CreatedWithProfile(Api):
    """Assign adds the new order to its answer."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Response:
        if not self.store.assign(order_id, executor_id, zone_id):
            return self.reply(self.ALREADY_EXISTS)
        order = self.store.find(order_id)
        assert order is not None
        return self.reply(self.CREATED, order_profile=self.store.profile(order))


@faults.breaks("ASSIGN-2")
class AssignMissingMisspelled(Api):
    """If a parameter of assign is missing, the message has a comma instead of `and`."""

    ASSIGN_MISSING = 400, "Missing parameters, please provide order_id, executor_id, zone_id"


@faults.breaks("ASSIGN-2")
class AssignMissingIs422(Api):
    """If a parameter of assign is missing, the status is 422."""

    ASSIGN_MISSING = 422, Api.ASSIGN_MISSING[1]


@faults.breaks("ASSIGN-2")
class MissingListsOnlyMissing(Api):
    """If parameters are missing, the message lists only those, not all of the operation's."""

    def missing(self, operation: Operation, names: Sequence[str]) -> Response:
        return self.reply((400, f"Missing parameters, please provide {' and '.join(names)}"))


@faults.breaks("ASSIGN-2")
class ZoneIsOptional(Parameters):
    """Assign accepts an order without a zone and puts it into the zone `default`."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {"zone_id": [b"default"], **super().given(request)}


@faults.breaks("ASSIGN-2", "PARAM-4")
class KnownBeforeMissing(Api):
    """Assign answers `already exists` for a known order although another parameter is missing."""

    def run(self, operation: Operation, request: Request) -> Response:
        if operation.method == "PUT" and self.store.find(query_fields(request).get("order_id", "")):
            return self.reply(self.ALREADY_EXISTS)
        return super().run(operation, request)


@faults.breaks("ASSIGN-3")
class KnownMisspelled(Api):
    """Assign answers a known order with `OrderId` instead of `orderId`."""

    ALREADY_EXISTS = 400, "AssignedOrder with provided OrderId already exists"


@faults.breaks("ASSIGN-3")
class KnownIs409(Api):
    """Assign answers a known order with 409."""

    ALREADY_EXISTS = 409, Api.ALREADY_EXISTS[1]


@faults.breaks("ASSIGN-3")
class KnownIs200(Api):
    """Assign answers a known order with 200 and the right message."""

    ALREADY_EXISTS = 200, Api.ALREADY_EXISTS[1]


@faults.breaks("ASSIGN-3")
class RepeatSaysCreated(Api):
    """Assign answers `Successfully created` again when the same request is sent again."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Response:
        known = self.store.find(order_id)
        if known and (known.executor_id, known.zone_id) == (executor_id, zone_id):
            return self.reply(self.CREATED)
        return super().assign(order_id, executor_id, zone_id)


@faults.breaks("ASSIGN-3")
class KnownForAnotherSaysCreated(Api):
    """Assign of a known order to another executor changes nothing, but answers `Successfully created`."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Response:
        known = self.store.find(order_id)
        if known and known.executor_id != executor_id:
            return self.reply(self.CREATED)
        return super().assign(order_id, executor_id, zone_id)


@faults.breaks("ASSIGN-3")
class KnownPerExecutor(Store):
    """Assign knows an order only for its executor: the same order can be assigned to another executor."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            known = self.find(order_id)
            if known and known.executor_id == executor_id:
                return False
            self.register(self.new_order(order_id, executor_id, zone_id))
            return True


@faults.breaks("ASSIGN-3")
class AssignReplaces(Store):
    """Assign replaces a known order, as PUT usually does."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if known := self.find(order_id):
                self.end(known, COMPLETED)
            self.register(self.new_order(order_id, executor_id, zone_id))
            return True


@faults.breaks("ASSIGN-4", "ASSIGN-5")
class RepeatRefreshesTime(RefusedAssign):
    """A refused assign sets the `assign_time` of the known order to the current time."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        known.assign_time = self.now()


@faults.breaks("ASSIGN-4", "ASSIGN-5")
class RepeatResetsStatus(RefusedAssign):
    """A refused assign resets an acquired order to `assigned`."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        if known.is_active:
            known.execution_status = ASSIGNED


@faults.breaks("ASSIGN-4", "ASSIGN-5")
class RepeatGivesNewUuid(RefusedAssign):
    """A refused assign gives the known order a new `assigned_order_id`."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        known.assigned_order_id = self.new_uuid()


@faults.breaks("ASSIGN-5", "ASSIGN-6")
class RefusedAssignMovesOrder(RefusedAssign):
    """A refused assign moves the known order to the executor that the request names."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        if known.is_active and known.executor_id != executor_id:
            del self.active[known.executor_id]
            known.executor_id = executor_id
            self.register(known)


@faults.breaks("ASSIGN-5")
class RefusedAssignChangesZone(RefusedAssign):
    """A refused assign moves the known order to the zone that the request names."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        known.zone_id = zone_id


@faults.breaks("ASSIGN-6", "ASSIGN-4", "ASSIGN-5")
class RefusedAssignCompletes(Store):
    """Assign completes the executor's active order before it finds that the new one is known."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if active := self.active_order(executor_id):
                self.end(active, COMPLETED)
            return super().assign(order_id, executor_id, zone_id)


@faults.breaks("ASSIGN-6")
class RefusedAssignFreesExecutor(RefusedAssign):
    """A refused assign takes the active order away from the other executor that the request names."""

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        if known.executor_id != executor_id:
            self.active.pop(executor_id, None)


@faults.breaks("ASSIGN-7")
class CancelledIsForgotten(Store):
    """Cancel forgets the order, so that its id can be assigned again."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            cancelled = super().cancel(order_id)
            if cancelled:
                del self.orders[order_id]
            return cancelled


@faults.breaks("ASSIGN-7")
class CompletedIsForgotten(Store):
    """Assign forgets the order that it completes, so that its id can be assigned again."""

    def end(self, order: Order, status: str) -> None:
        super().end(order, status)
        if status == COMPLETED:
            del self.orders[order.order_id]
