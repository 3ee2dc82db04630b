"""Faults of `order_profile`: its properties, identifiers and times."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

from tests.faulty.catalogue import Faults
from tests.faulty.implementation import ASSIGNED, Api, Order, Profile, Response, Store

faults = Faults()


@faults.breaks("ACQUIRE-1")
class ProfileInAList(Api):
    """Acquire returns `order_profile` as a list that contains the order."""

    def acquired(self, profile: Profile) -> Response:
        return self.reply(self.ACQUIRED, order_profile=[profile])


@faults.breaks("ACQUIRE-5")
class ProfileWithoutZone(Store):
    """The profile lacks `zone_id`."""

    def profile(self, order: Order) -> Profile:
        profile = super().profile(order)
        del profile["zone_id"]
        return profile


@faults.breaks("ACQUIRE-5")
class ProfileWithRowNumber(Store):
    """The profile also has the primary key of the row, `id`."""

    def profile(self, order: Order) -> Profile:
        return {"id": 1, **super().profile(order)}


@faults.breaks("ACQUIRE-5")
class ProfileInCamelCase(Store):
    """The profile's properties are in camel case, for example `orderId`."""

    def profile(self, order: Order) -> Profile:
        def camel(name: str) -> str:
            return re.sub(r"_(\w)", lambda match: match[1].upper(), name)

        return {camel(name): value for name, value in super().profile(order).items()}


@faults.breaks("ACQUIRE-5")
class StatusStaysAssigned(Store):
    """The profile always shows the status `assigned`."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "execution_status": ASSIGNED}


@faults.breaks("ACQUIRE-5")
class StatusInCapitals(Store):
    """The profile shows the status in capitals: the name of a constant, not its value."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "execution_status": order.execution_status.upper()}


@faults.breaks("ACQUIRE-6")
class SameUuid(Store):
    """All orders have the same `assigned_order_id`: the server makes it once, when it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.uuid = super().new_uuid()

    def new_uuid(self) -> str:
        return self.uuid


@faults.breaks("ACQUIRE-6")
class UuidPerExecutor(Store):
    """All orders of an executor have the same `assigned_order_id`."""

    def new_order(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        order = super().new_order(order_id, executor_id, zone_id)
        return replace(order, assigned_order_id=str(uuid5(NAMESPACE_OID, executor_id)))


@faults.breaks("ACQUIRE-6")
class UuidIsANumber(Store):
    """`assigned_order_id` is a number that counts up."""

    def new_uuid(self) -> str:
        return str(len(self.orders) + 1)


@faults.breaks("ACQUIRE-6")
class UuidIsTheOrderId(Store):
    """`assigned_order_id` is a copy of `order_id`."""

    def new_order(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return replace(super().new_order(order_id, executor_id, zone_id), assigned_order_id=order_id)


@faults.breaks("ACQUIRE-7", "ACQUIRE-4")
class AcquireTimeIsNull(Store):
    """The first acquire shows an `acquire_time` of null, because it reads the profile before it updates the order."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            order = self.active_order(executor_id)
            is_first = order is not None and order.acquire_time is None
            profile = super().acquire(executor_id)
            return {**profile, "acquire_time": None} if profile and is_first else profile


@faults.breaks("ACQUIRE-7")
class TimesWithOffset(Store):
    """Times end in `+00:00` instead of `Z`."""

    def now(self) -> str:
        return super().now().replace("Z", "+00:00")


@faults.breaks("ACQUIRE-7")
class TimesWithoutZone(Store):
    """Times have no time zone."""

    def now(self) -> str:
        return super().now().removesuffix("Z")


@faults.breaks("ACQUIRE-7")
class TimesWithSpace(Store):
    """Times have a space instead of `T`, as databases write them."""

    def now(self) -> str:
        return super().now().replace("T", " ")


@faults.breaks("ACQUIRE-7")
class TimesAreLocal(Store):
    """Times are local times, three hours ahead of UTC, but end in `Z`."""

    def now(self) -> str:
        return (datetime.now(UTC) + timedelta(hours=3)).isoformat(timespec="microseconds").replace("+00:00", "Z")


@faults.breaks("ACQUIRE-7")
class TimesAreSeconds(Store):
    """Times are seconds since 1970."""

    def profile(self, order: Order) -> Profile:
        profile = super().profile(order)
        for name in ("assign_time", "acquire_time"):
            profile[name] = datetime.fromisoformat(profile[name]).timestamp()
        return profile


@faults.breaks("ACQUIRE-7")
class AcquireTimeIsAssignTime(Store):
    """`acquire_time` is a copy of `assign_time`."""

    def mark_acquired(self, order: Order) -> None:
        super().mark_acquired(order)
        order.acquire_time = order.assign_time


@faults.breaks("ACQUIRE-7")
class AssignTimeIsAcquireTime(Store):
    """The first acquire sets `assign_time` too, like a column default that applies to updates."""

    def mark_acquired(self, order: Order) -> None:
        super().mark_acquired(order)
        order.assign_time = self.now()
        order.acquire_time = order.assign_time


@faults.breaks("ACQUIRE-7")
class AssignTimeIsServerStart(Store):
    """`assign_time` is the time when the server started, like a default that is evaluated once."""

    def __init__(self) -> None:
        super().__init__()
        self.started = self.now()

    def new_order(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return replace(super().new_order(order_id, executor_id, zone_id), assign_time=self.started)


@faults.breaks("ACQUIRE-7")
class AcquireMarksAll(Store):
    """The first acquire of an order marks all assigned orders as acquired: an UPDATE without a WHERE."""

    def mark_acquired(self, order: Order) -> None:
        for other in self.active.values():
            if other.execution_status == ASSIGNED:
                super().mark_acquired(other)


@faults.breaks("ACQUIRE-7")
class AcquireMarksTheZone(Store):
    """The first acquire of an order marks all assigned orders of its zone as acquired."""

    def mark_acquired(self, order: Order) -> None:
        for other in self.active.values():
            if other.zone_id == order.zone_id and other.execution_status == ASSIGNED:
                super().mark_acquired(other)
