"""Faulty servers: each is the correct service with one planted mistake, as somebody may well make it.

Each fault is a subclass of one piece of the service. Its docstring says what it does wrong, and `breaks` names the
clause of the contract that it breaks; often others break along with it.
"""

import html
import json
import re
import select
import socket
import threading
import time
import traceback
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes
from uuid import NAMESPACE_OID, uuid5

from tests.faulty.service import (
    ACQUIRE_PATH,
    ASSIGN_PATH,
    ASSIGNED,
    CANCEL_PATH,
    CANCELLED,
    COMPLETED,
    Answer,
    Api,
    Book,
    Connection,
    InvalidParameter,
    Operation,
    Order,
    Parameters,
    Piece,
    Profile,
    Reply,
    Request,
    Server,
)

PAUSE_S = 0.005
LATER_S = 0.05
LIFETIME_S = 3
CAPACITY = 500


@dataclass(frozen=True)
class Fault:
    """A mistake in the service, and the clause of the contract that it breaks."""

    name: str
    clause: str
    description: str
    piece: type

    def server(self, port: int = 0) -> Server:
        """Return a server that makes the mistake."""
        return Server(self.piece, port=port)


_catalogue: list[Fault] = []


def breaks(clause: str) -> Callable[[type[Piece]], type[Piece]]:
    """Enter a piece of the service into the catalogue, as a fault that breaks `clause`."""

    def enter(piece: type[Piece]) -> type[Piece]:
        name = re.sub(r"(?<!^)(?=[A-Z])|(?<=[a-z])(?=[0-9])", "-", piece.__name__).lower()
        _catalogue.append(Fault(name, clause, " ".join((piece.__doc__ or "").split()), piece))
        return piece

    return enter


def pause() -> None:
    """Take the time in which another request can come between."""
    time.sleep(PAUSE_S)


def fields(request: Request) -> dict[str, str]:
    """Read the query string of a request without any care."""
    return dict(parse_qsl(request.query.decode("latin-1")))


def document(reply: Reply) -> dict[str, Any]:
    """Return the JSON of a reply."""
    content: dict[str, Any] = json.loads(reply.content)
    return content


# Assign.


@breaks("ASSIGN-1")
class CreatedMisspelled(Api):
    """A new order is answered `Succesfully created`."""

    CREATED = 200, "Succesfully created"


@breaks("ASSIGN-1")
class CreatedWithFullStop(Api):
    """A new order is answered `Successfully created.`."""

    CREATED = 200, "Successfully created."


@breaks("ASSIGN-1")
class CreatedIs201(Api):
    """A new order is answered 201."""

    CREATED = 201, "Successfully created"


@breaks("ASSIGN-1")
class CreatedWithProfile(Api):
    """A new order is answered with the order in the answer, which nobody asked for."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Reply:
        if not self.book.assign(order_id, executor_id, zone_id):
            return self.reply(self.KNOWN)
        order = self.book.find(order_id)
        assert order is not None
        return self.reply(self.CREATED, order_profile=self.book.profile(order))


@breaks("ASSIGN-2")
class AssignMissingMisspelled(Api):
    """The message for a missing parameter of assign has a comma in the place of `and`."""

    ASSIGN_MISSING = 400, "Missing parameters, please provide order_id, executor_id, zone_id"


@breaks("ASSIGN-2")
class AssignMissingIs422(Api):
    """A missing parameter of assign is answered 422."""

    ASSIGN_MISSING = 422, Api.ASSIGN_MISSING[1]


@breaks("ASSIGN-2")
class MissingListsOnlyMissing(Api):
    """The message for missing parameters lists those that are missing instead of all."""

    def missing(self, operation: Operation, names: Sequence[str]) -> Reply:
        return self.reply((400, f"Missing parameters, please provide {' and '.join(names)}"))


@breaks("ASSIGN-2")
class ZoneIsOptional(Parameters):
    """An assign without a zone is accepted, and put into the zone `default`."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {"zone_id": [b"default"], **super().given(request)}


@breaks("ASSIGN-2")
class KnownBeforeMissing(Api):
    """A known order is answered `already exists` although another parameter is missing."""

    def run(self, operation: Operation, request: Request) -> Reply:
        if operation.method == "PUT" and self.book.find(fields(request).get("order_id", "")):
            return self.reply(self.KNOWN)
        return super().run(operation, request)


@breaks("ASSIGN-3")
class KnownMisspelled(Api):
    """A known order is answered with `OrderId` in the place of `orderId`."""

    KNOWN = 400, "AssignedOrder with provided OrderId already exists"


@breaks("ASSIGN-3")
class KnownIs409(Api):
    """A known order is answered 409."""

    KNOWN = 409, Api.KNOWN[1]


@breaks("ASSIGN-3")
class KnownIs200(Api):
    """A known order is answered 200, with the right message."""

    KNOWN = 200, Api.KNOWN[1]


@breaks("ASSIGN-3")
class RepeatSaysCreated(Api):
    """The same assign again is answered like the first one; other parameters are answered `already exists`."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Reply:
        known = self.book.find(order_id)
        if known and (known.executor_id, known.zone_id) == (executor_id, zone_id):
            return self.reply(self.CREATED)
        return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-3")
class KnownWithOthersSaysCreated(Api):
    """An assign of a known order to another executor is answered `Successfully created`, although nothing changes."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Reply:
        known = self.book.find(order_id)
        if known and known.executor_id != executor_id:
            return self.reply(self.CREATED)
        return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-3")
class KnownPerExecutor(Book):
    """An order is known only together with its executor: another executor can be assigned the same one."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            known = self.find(order_id)
            if known and known.executor_id == executor_id:
                return False
            self.register(self.make(order_id, executor_id, zone_id))
            return True


@breaks("ASSIGN-3")
class AssignReplaces(Book):
    """An assign of a known order replaces it, as PUT usually does."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if known := self.find(order_id):
                self.end(known, COMPLETED)
            self.register(self.make(order_id, executor_id, zone_id))
            return True


@breaks("ASSIGN-4")
class RepeatRefreshesTime(Book):
    """A refused assign moves the `assign_time` of the known order."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if known := self.find(order_id):
                known.assign_time = self.now()
            return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-4")
class RepeatResetsStatus(Book):
    """A refused assign makes an acquired order `assigned` again, so that it is acquired anew."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            known = self.find(order_id)
            if known and known.is_active:
                known.execution_status = ASSIGNED
            return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-4")
class RepeatGivesNewUuid(Book):
    """A refused assign gives the known order a new `assigned_order_id`."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if known := self.find(order_id):
                known.assigned_order_id = self.new_uuid()
            return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-5")
class RefusedAssignMovesOrder(Book):
    """A refused assign gives the known order to the executor that it names."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            known = self.find(order_id)
            if known and known.is_active and known.executor_id != executor_id:
                del self.active[known.executor_id]
                known.executor_id = executor_id
                self.register(known)
            return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-5")
class RefusedAssignChangesZone(Book):
    """A refused assign moves the known order to the zone that it names."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if known := self.find(order_id):
                known.zone_id = zone_id
            return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-6")
class RefusedAssignCompletes(Book):
    """Assign completes the executor's order before it finds that the new one is known."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if current := self.current(executor_id):
                self.end(current, COMPLETED)
            return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-6")
class RefusedAssignFreesExecutor(Book):
    """A refused assign takes the active order from another executor that it names, and leaves it active."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            known = self.find(order_id)
            if known and known.executor_id != executor_id:
                self.active.pop(executor_id, None)
            return super().assign(order_id, executor_id, zone_id)


@breaks("ASSIGN-7")
class CancelledIsForgotten(Book):
    """The id of a cancelled order is free again."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            cancelled = super().cancel(order_id)
            if cancelled:
                del self.orders[order_id]
            return cancelled


@breaks("ASSIGN-7")
class CompletedIsForgotten(Book):
    """The id of a completed order is free again."""

    def end(self, order: Order, status: str) -> None:
        super().end(order, status)
        if status == COMPLETED:
            del self.orders[order.order_id]


# Acquire.


@breaks("ACQUIRE-1")
class AcquiredMisspelled(Api):
    """An acquired order is answered `Succesfully acquired`."""

    ACQUIRED = 200, "Succesfully acquired"


@breaks("ACQUIRE-1")
class AcquiredIs202(Api):
    """An acquired order is answered 202."""

    ACQUIRED = 202, Api.ACQUIRED[1]


@breaks("ACQUIRE-1")
class ProfileUnwrapped(Api):
    """The properties of the order are beside the message instead of in `order_profile`."""

    def acquired(self, profile: Profile) -> Reply:
        return self.reply(self.ACQUIRED, **profile)


@breaks("ACQUIRE-1")
class ProfileMisnamed(Api):
    """The order is in `orderProfile`."""

    def acquired(self, profile: Profile) -> Reply:
        return self.reply(self.ACQUIRED, orderProfile=profile)


@breaks("ACQUIRE-1")
class ExecutorAndZoneSwapped(Book):
    """The profile has the executor as its zone, and the zone as its executor."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "executor_id": order.zone_id, "zone_id": order.executor_id}


@breaks("ACQUIRE-1")
class AssignedLater(Api):
    """An order is registered some time after its assign was answered."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Reply:
        if self.book.find(order_id):
            return self.reply(self.KNOWN)
        timer = threading.Timer(LATER_S, self.book.assign, (order_id, executor_id, zone_id))
        timer.daemon = True
        timer.start()
        return self.reply(self.CREATED)


@breaks("ACQUIRE-2")
class AcquireMissingMisspelled(Api):
    """The message for acquire without an executor names `executorId`."""

    ACQUIRE_MISSING = 400, "Missing parameters, please provide executorId"


@breaks("ACQUIRE-2")
class AcquireMissingIs404(Api):
    """Acquire without an executor is answered 404."""

    ACQUIRE_MISSING = 404, Api.ACQUIRE_MISSING[1]


@breaks("ACQUIRE-2")
class AcquireMissingHasNoOrders(Api):
    """Acquire without an executor is answered like one of an executor without orders."""

    ACQUIRE_MISSING = Api.NO_ORDERS


@breaks("ACQUIRE-3")
class NoOrdersMisspelled(Api):
    """An executor without an order is told `There are no orders assigned to you.`."""

    NO_ORDERS = 200, "There are no orders assigned to you."


@breaks("ACQUIRE-3")
class NoOrdersIs404(Api):
    """An executor without an order is answered 404."""

    NO_ORDERS = 404, Api.NO_ORDERS[1]


@breaks("ACQUIRE-3")
class NoOrdersIs204(Api):
    """An executor without an order is answered 204, without a body."""

    def no_orders(self, executor_id: str) -> Reply:
        return replace(super().no_orders(executor_id), status=204, content=b"")


@breaks("ACQUIRE-3")
class NoOrdersWithNullProfile(Api):
    """An executor without an order gets an `order_profile` that is null."""

    def no_orders(self, executor_id: str) -> Reply:
        return self.reply(self.NO_ORDERS, order_profile=None)


@breaks("ACQUIRE-3")
class UnknownExecutorIs400(Api):
    """An executor who was never assigned anything is refused."""

    def no_orders(self, executor_id: str) -> Reply:
        known = any(order.executor_id == executor_id for order in list(self.book.orders.values()))
        return super().no_orders(executor_id) if known else self.reply((400, "Unknown executor"))


@breaks("ACQUIRE-3")
class AcquireTakesFromAnother(Book):
    """An executor without an order gets the newest active order of another one."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            if self.current(executor_id) is None:
                executor_id = next(reversed(self.active), executor_id)
            return super().acquire(executor_id)


@breaks("ACQUIRE-4")
class AcquireTimeMoves(Book):
    """Every acquire sets `acquire_time`."""

    def current(self, executor_id: str) -> Order | None:
        order = super().current(executor_id)
        if order and order.acquire_time:
            self.mark(order)
        return order


@breaks("ACQUIRE-4")
class AcquiredOnlyOnce(Book):
    """An order is handed out once; every later acquire has no orders."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            order = self.current(executor_id)
            return super().acquire(executor_id) if order and order.execution_status == ASSIGNED else None


@breaks("ACQUIRE-4")
class AcquireCompletes(Book):
    """Acquiring an order completes it."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            profile = super().acquire(executor_id)
            if order := self.current(executor_id):
                self.end(order, COMPLETED)
            return profile


@breaks("ACQUIRE-4")
class FirstProfileIsAssigned(Book):
    """The first acquire still shows the status `assigned`: the profile was read before the write."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            order = self.current(executor_id)
            before = order.execution_status if order else ""
            profile = super().acquire(executor_id)
            return profile and {**profile, "execution_status": before}


@breaks("ACQUIRE-4")
class PropertiesInAnyOrder(Book):
    """The properties of the profile are in another order each time."""

    def profile(self, order: Order) -> Profile:
        profile = super().profile(order)
        names = sorted(profile, key=lambda name: sha256(f"{name} {time.monotonic_ns()}".encode()).digest())
        return {name: profile[name] for name in names}


@breaks("ACQUIRE-4")
class UuidPerAnswer(Book):
    """Every acquire makes a new `assigned_order_id`."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "assigned_order_id": self.new_uuid()}


@breaks("ACQUIRE-5")
class ProfileInAList(Api):
    """`order_profile` is a list with the order in it."""

    def acquired(self, profile: Profile) -> Reply:
        return self.reply(self.ACQUIRED, order_profile=[profile])


@breaks("ACQUIRE-5")
class ProfileWithoutZone(Book):
    """The profile lacks `zone_id`."""

    def profile(self, order: Order) -> Profile:
        profile = super().profile(order)
        del profile["zone_id"]
        return profile


@breaks("ACQUIRE-5")
class ProfileWithRowNumber(Book):
    """The profile has an `id` too: the whole row, with its primary key."""

    def profile(self, order: Order) -> Profile:
        return {"id": 1, **super().profile(order)}


@breaks("ACQUIRE-5")
class ProfileInCamelCase(Book):
    """The profile's properties are `orderId`, `executorId` and so on."""

    def profile(self, order: Order) -> Profile:
        def camel(name: str) -> str:
            return re.sub(r"_(\w)", lambda match: match[1].upper(), name)

        return {camel(name): value for name, value in super().profile(order).items()}


@breaks("ACQUIRE-5")
class StatusStaysAssigned(Book):
    """The profile always shows the status `assigned`."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "execution_status": ASSIGNED}


@breaks("ACQUIRE-5")
class StatusInCapitals(Book):
    """The profile shows the status `ACQUIRED`: the name of the constant, not its value."""

    def profile(self, order: Order) -> Profile:
        return {**super().profile(order), "execution_status": order.execution_status.upper()}


@breaks("ACQUIRE-6")
class SameUuid(Book):
    """All orders have the same `assigned_order_id`: it was made once, when the server started."""

    def __init__(self) -> None:
        super().__init__()
        self.uuid = super().new_uuid()

    def new_uuid(self) -> str:
        return self.uuid


@breaks("ACQUIRE-6")
class UuidPerExecutor(Book):
    """All orders of an executor have the same `assigned_order_id`."""

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        order = super().make(order_id, executor_id, zone_id)
        return replace(order, assigned_order_id=str(uuid5(NAMESPACE_OID, executor_id)))


@breaks("ACQUIRE-6")
class UuidIsANumber(Book):
    """`assigned_order_id` is a number that is counted up."""

    def new_uuid(self) -> str:
        return str(len(self.orders) + 1)


@breaks("ACQUIRE-6")
class UuidIsTheOrderId(Book):
    """`assigned_order_id` is the `order_id`."""

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return replace(super().make(order_id, executor_id, zone_id), assigned_order_id=order_id)


@breaks("ACQUIRE-7")
class AcquireTimeIsNull(Book):
    """`acquire_time` is null in the first answer: the profile was read before the write."""

    def acquire(self, executor_id: str) -> Profile | None:
        with self.lock:
            order = self.current(executor_id)
            is_first = order is not None and order.acquire_time is None
            profile = super().acquire(executor_id)
            return {**profile, "acquire_time": None} if profile and is_first else profile


@breaks("ACQUIRE-7")
class TimesWithOffset(Book):
    """Times end in `+00:00` instead of `Z`."""

    def now(self) -> str:
        return super().now().replace("Z", "+00:00")


@breaks("ACQUIRE-7")
class TimesWithoutZone(Book):
    """Times have no time zone."""

    def now(self) -> str:
        return super().now().removesuffix("Z")


@breaks("ACQUIRE-7")
class TimesWithSpace(Book):
    """Times have a space between the date and the time of day, as databases write them."""

    def now(self) -> str:
        return super().now().replace("T", " ")


@breaks("ACQUIRE-7")
class TimesAreLocal(Book):
    """Times are those of a place three hours east of Greenwich, and yet end in `Z`."""

    def now(self) -> str:
        return (datetime.now(UTC) + timedelta(hours=3)).isoformat(timespec="microseconds").replace("+00:00", "Z")


@breaks("ACQUIRE-7")
class TimesAreSeconds(Book):
    """Times are seconds since 1970."""

    def profile(self, order: Order) -> Profile:
        profile = super().profile(order)
        for name in ("assign_time", "acquire_time"):
            profile[name] = datetime.fromisoformat(profile[name]).timestamp()
        return profile


@breaks("ACQUIRE-7")
class AcquireTimeIsAssignTime(Book):
    """`acquire_time` is a copy of `assign_time`."""

    def mark(self, order: Order) -> None:
        super().mark(order)
        order.acquire_time = order.assign_time


@breaks("ACQUIRE-7")
class AssignTimeIsAcquireTime(Book):
    """`assign_time` is the time of the first acquire: a default that is updated with the row."""

    def mark(self, order: Order) -> None:
        super().mark(order)
        order.assign_time = self.now()
        order.acquire_time = order.assign_time


@breaks("ACQUIRE-7")
class TimesOfTheStart(Book):
    """`assign_time` is the time when the server started: a default that is evaluated once."""

    def __init__(self) -> None:
        super().__init__()
        self.started = self.now()

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return replace(super().make(order_id, executor_id, zone_id), assign_time=self.started)


@breaks("ACQUIRE-8")
class WithoutCacheControl(Api):
    """Answers have no `Cache-Control`."""

    def reply(self, answer: Answer, **more: object) -> Reply:
        reply = super().reply(answer, **more)
        del reply.headers["Cache-Control"]
        return reply


@breaks("ACQUIRE-8")
class CachedForAMinute(Api):
    """Acquired orders may be cached for a minute."""

    def acquired(self, profile: Profile) -> Reply:
        reply = super().acquired(profile)
        reply.headers["Cache-Control"] = "max-age=60"
        return reply


@breaks("ACQUIRE-8")
class NoOrdersMayBeCached(Api):
    """Only the answers with an order have `Cache-Control: no-store`."""

    def no_orders(self, executor_id: str) -> Reply:
        reply = super().no_orders(executor_id)
        del reply.headers["Cache-Control"]
        return reply


@breaks("ACQUIRE-9")
class WithEtag(Api):
    """Acquired orders have an `ETag`."""

    def acquired(self, profile: Profile) -> Reply:
        reply = super().acquired(profile)
        reply.headers["ETag"] = f'"{sha256(reply.content).hexdigest()}"'
        return reply


@breaks("ACQUIRE-9")
class NotModified(Api):
    """Acquire is answered 304 if the client has the answer already, by its `ETag`."""

    def route(self, request: Request) -> Reply:
        reply = super().route(request)
        if request.path == ACQUIRE_PATH and reply.status == 200:
            reply.headers["ETag"] = f'"{sha256(reply.content).hexdigest()}"'
            if request.headers.get("if-none-match") in (reply.headers["ETag"], "*"):
                return replace(reply, status=304, content=b"")
        return reply


# Cancel.


@breaks("CANCEL-1")
class CanceledMisspelled(Api):
    """A cancel is answered `Successfully cancelled`, with two l."""

    CANCELED = 200, "Successfully cancelled"


@breaks("CANCEL-1")
class CanceledIs204(Api):
    """A cancel is answered 204, without a body."""

    def canceled(self, order_id: str) -> Reply:
        return replace(super().canceled(order_id), status=204, content=b"")


@breaks("CANCEL-1")
class CancelRefusesAssigned(Book):
    """Only an order that was acquired can be cancelled."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            return order is not None and order.acquire_time is not None and super().cancel(order_id)


@breaks("CANCEL-1")
class CancelLooksTooLate(Api):
    """Cancel looks at the order after it has cancelled it, and says that it was cancelled already."""

    def canceled(self, order_id: str) -> Reply:
        return self.not_active(order_id)


@breaks("CANCEL-2")
class CancelMissingMisspelled(Api):
    """The message for cancel without an order begins `Missing parameter`."""

    CANCEL_MISSING = 400, "Missing parameter, please provide order_id"


@breaks("CANCEL-2")
class CancelMissingIs422(Api):
    """Cancel without an order is answered 422."""

    CANCEL_MISSING = 422, Api.CANCEL_MISSING[1]


@breaks("CANCEL-2")
class CancelMissingNotFound(Api):
    """Cancel without an order is answered that the order does not exist."""

    CANCEL_MISSING = 200, Api.NOT_ACTIVE[1].format("")


@breaks("CANCEL-3")
class NotActiveMisspelled(Api):
    """The message for an order that is not active says `been cancelled`, with two l."""

    NOT_ACTIVE = 200, "AssignedOrder with OrderId {} does not exist or has already been cancelled"


@breaks("CANCEL-3")
class NotActiveIs404(Api):
    """Cancelling an order that is not active is answered 404."""

    NOT_ACTIVE = 404, Api.NOT_ACTIVE[1]


@breaks("CANCEL-3")
class UnknownIsCanceled(Api):
    """Cancelling an order that nobody knows is answered `Successfully canceled`."""

    def cancel(self, order_id: str) -> Reply:
        return super().cancel(order_id) if self.book.find(order_id) else self.canceled(order_id)


@breaks("CANCEL-3")
class CancelledTwice(Book):
    """Cancelling an order again succeeds again."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            return super().cancel(order_id) or (order is not None and order.execution_status == CANCELLED)


@breaks("CANCEL-3")
class CompletedIsCancelled(Book):
    """A completed order can be cancelled."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            if order is None or order.execution_status == CANCELLED:
                return False
            self.end(order, CANCELLED)
            return True


@breaks("CANCEL-4")
class CancelRefusesAcquired(Book):
    """An order that was acquired cannot be cancelled any more."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            return order is not None and order.execution_status == ASSIGNED and super().cancel(order_id)


@breaks("CANCEL-5")
class EchoMissing(Api):
    """Cancel's answer leaves the id out."""

    NOT_ACTIVE = 200, "AssignedOrder with OrderId does not exist or has already been canceled"


@breaks("CANCEL-5")
class EchoTemplate(Api):
    """Cancel's answer has `$$order_id`, as in the document, in the place of the id."""

    NOT_ACTIVE = 200, Api.NOT_ACTIVE[1].format("$$order_id")


@breaks("CANCEL-5")
class EchoLowercased(Api):
    """Cancel's answer has the id in small letters."""

    def not_active(self, order_id: str) -> Reply:
        return super().not_active(order_id.lower())


@breaks("CANCEL-5")
class EchoTrimmed(Api):
    """Cancel's answer has the id without the spaces around it."""

    def not_active(self, order_id: str) -> Reply:
        return super().not_active(order_id.strip())


@breaks("CANCEL-5")
class EchoPercentEncoded(Api):
    """Cancel's answer has the id as it was in the URL."""

    def not_active(self, order_id: str) -> Reply:
        return super().not_active(quote(order_id, safe=""))


@breaks("CANCEL-5")
class EchoHtmlEscaped(Api):
    """Cancel's answer has the id with `&amp;` for `&`."""

    def not_active(self, order_id: str) -> Reply:
        return super().not_active(html.escape(order_id))


@breaks("CANCEL-5")
class EchoQuoted(Api):
    """Cancel's answer has the id in quotation marks."""

    def not_active(self, order_id: str) -> Reply:
        return super().not_active(f'"{order_id}"')


@breaks("CANCEL-5")
class EchoExecutor(Api):
    """Cancel's answer has the executor's id in the place of the order's."""

    def not_active(self, order_id: str) -> Reply:
        order = self.book.find(order_id)
        return super().not_active(order.executor_id if order else order_id)


# Lifecycle.


@breaks("LIFE-1")
class BusyIsRefused(Api):
    """An executor who has an active order cannot be assigned another."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Reply:
        with self.book.lock:
            if self.book.current(executor_id) and not self.book.find(order_id):
                return self.reply((400, "Executor is busy"))
            return super().assign(order_id, executor_id, zone_id)


@breaks("LIFE-1")
class OrdersQueue(Book):
    """An executor's orders form a queue: the oldest one stays active until it is cancelled."""

    def current(self, executor_id: str) -> Order | None:
        own = (order for order in self.orders.values() if order.executor_id == executor_id and order.is_active)
        return next(own, None)

    def register(self, order: Order) -> None:
        self.add(order)


@breaks("LIFE-1")
class OldOrderStaysActive(Book):
    """Assigning an executor a new order leaves the old one active, so that it can still be cancelled."""

    def register(self, order: Order) -> None:
        self.add(order)


@breaks("LIFE-1")
class OnlyAcquiredIsCompleted(Book):
    """Assigning an executor a new order completes the old one only if it was acquired."""

    def register(self, order: Order) -> None:
        current = self.current(order.executor_id)
        if current and current.execution_status == ASSIGNED:
            self.add(order)
        else:
            super().register(order)


@breaks("LIFE-1")
class NewOrderWaits(Book):
    """Assigning an executor a new order is answered 200, and forgotten while there is an active one."""

    def register(self, order: Order) -> None:
        if self.current(order.executor_id):
            self.orders[order.order_id] = order
        else:
            super().register(order)


@breaks("LIFE-2")
class CancelledIsHandedOut(Book):
    """A cancelled order is still handed out."""

    def end(self, order: Order, status: str) -> None:
        if status == CANCELLED:
            order.execution_status = CANCELLED
        else:
            super().end(order, status)


@breaks("LIFE-2")
class AcquiredIsRemembered(Book):
    """Acquire remembers each order that it handed out, and hands it out again although it was cancelled."""

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


@breaks("LIFE-2")
class CancelBlocksExecutor(Book):
    """An executor whose order was cancelled is not freed: their next order is registered and never handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: set[str] = set()

    def acquire(self, executor_id: str) -> Profile | None:
        return None if executor_id in self.blocked else super().acquire(executor_id)

    def end(self, order: Order, status: str) -> None:
        super().end(order, status)
        if status == CANCELLED:
            self.blocked.add(order.executor_id)


@breaks("LIFE-2")
class CancelLeavesExecutorBusy(Api):
    """An executor whose order was cancelled still counts as busy, and is refused another."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Reply:
        with self.book.lock:
            own = [order for order in self.book.orders.values() if order.executor_id == executor_id]
            if own and own[-1].execution_status == CANCELLED and not self.book.find(order_id):
                return self.reply((400, "Executor is busy"))
            return super().assign(order_id, executor_id, zone_id)


@breaks("LIFE-3")
class OldOrderResurfaces(Book):
    """When an order is cancelled, the executor's completed order before it becomes active again."""

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


@breaks("LIFE-3")
class RepeatRevivesCancelled(Book):
    """A refused assign makes a cancelled order active again."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            known = self.find(order_id)
            if known and known.execution_status == CANCELLED:
                known.execution_status = ASSIGNED
                self.register(known)
            return super().assign(order_id, executor_id, zone_id)


@breaks("LIFE-3")
class RepeatRevivesCompleted(Book):
    """A refused assign makes a completed order active again."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            known = self.find(order_id)
            if known and known.execution_status == COMPLETED:
                known.execution_status = ASSIGNED
                self.register(known)
            return super().assign(order_id, executor_id, zone_id)


@breaks("LIFE-3")
class CancelGoesByExecutor(Book):
    """Cancel cancels whatever order the executor of the order has now."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            current = self.current(order.executor_id) if order else None
            return current is not None and super().cancel(current.order_id)


@breaks("LIFE-3")
class CancelOfCompletedFreesExecutor(Book):
    """Cancelling a completed order is answered well, and takes the newer order from its executor."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            if order and order.execution_status == COMPLETED:
                self.active.pop(order.executor_id, None)
            return super().cancel(order_id)


@breaks("LIFE-4")
class CancelGoesByPrefix(Book):
    """Cancel cancels also the orders whose ids begin with the id that is cancelled."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            cancelled = super().cancel(order_id)
            for other in [other for other in self.orders if other.startswith(order_id)]:
                super().cancel(other)
            return cancelled


@breaks("LIFE-4")
class AssignCompletesTheZone(Book):
    """Assign completes every active order in the zone."""

    def register(self, order: Order) -> None:
        for other in [other for other in self.active.values() if other.zone_id == order.zone_id]:
            self.end(other, COMPLETED)
        super().register(order)


@breaks("ACQUIRE-7")
class AcquireMarksAll(Book):
    """The first acquire of an order makes all assigned orders acquired: an UPDATE without its WHERE."""

    def mark(self, order: Order) -> None:
        for other in self.active.values():
            if other.execution_status == ASSIGNED:
                super().mark(other)


@breaks("LIFE-5")
class MissingZoneRegisters(Api):
    """An assign that is refused because its zone is missing registers the order all the same."""

    def run(self, operation: Operation, request: Request) -> Reply:
        given = fields(request)
        if operation.method == "PUT" and {"order_id", "executor_id"} <= given.keys() and "zone_id" not in given:
            self.book.assign(given["order_id"], given["executor_id"], "")
        return super().run(operation, request)


@breaks("LIFE-5")
class InvalidZoneRegisters(Api):
    """An assign that is refused because its zone is invalid registers the order all the same."""

    def run(self, operation: Operation, request: Request) -> Reply:
        reply = super().run(operation, request)
        if document(reply)["message"].startswith("Invalid parameter zone_id"):
            given = fields(request)
            self.book.assign(given["order_id"], given["executor_id"], given["zone_id"])
        return reply


@breaks("LIFE-5")
class MissingZoneCompletes(Api):
    """An assign that is refused because its zone is missing completes the executor's order all the same."""

    def run(self, operation: Operation, request: Request) -> Reply:
        given = fields(request)
        if operation.method == "PUT" and "zone_id" not in given:
            with self.book.lock:
                if current := self.book.current(given.get("executor_id", "")):
                    self.book.end(current, COMPLETED)
        return super().run(operation, request)


@breaks("LIFE-5")
class InvalidCancelCancels(Api):
    """A cancel that is refused because it gives an order twice cancels it all the same."""

    def run(self, operation: Operation, request: Request) -> Reply:
        reply = super().run(operation, request)
        if operation.method == "POST" and reply.status == 400:
            self.book.cancel(fields(request).get("order_id", ""))
        return reply


@breaks("LIFE-1")
class ThreeOrdersAtMost(Book):
    """From an executor's fourth order on, the old one is not completed any more."""

    def register(self, order: Order) -> None:
        own = sum(other.executor_id == order.executor_id for other in self.orders.values())
        if own < 3:
            super().register(order)
        else:
            self.add(order)


@breaks("LIFE-2")
class SecondCancelIsLost(Book):
    """The second cancel for an executor is answered well, and leaves their order with them."""

    def end(self, order: Order, status: str) -> None:
        cancelled = [
            other
            for other in self.orders.values()
            if (other.executor_id, other.execution_status) == (order.executor_id, CANCELLED)
        ]
        if status == CANCELLED and cancelled:
            order.execution_status = CANCELLED
        else:
            super().end(order, status)


@breaks("LIFE-7")
class OldestIsForgotten(Book):
    """Only the newest 500 orders are remembered."""

    def add(self, order: Order) -> None:
        super().add(order)
        if len(self.orders) > CAPACITY:
            oldest = self.orders.pop(next(iter(self.orders)))
            if self.current(oldest.executor_id) is oldest:
                del self.active[oldest.executor_id]


@breaks("LIFE-7")
class OrderExpires(Book):
    """An order is no longer handed out three seconds after it was assigned."""

    def __init__(self) -> None:
        super().__init__()
        self.born: dict[str, float] = {}

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        self.born[order_id] = time.monotonic()
        return super().make(order_id, executor_id, zone_id)

    def current(self, executor_id: str) -> Order | None:
        order = super().current(executor_id)
        return order if order and time.monotonic() - self.born[order.order_id] < LIFETIME_S else None


@breaks("LIFE-7")
class KnownExpires(Book):
    """The id of an order that is not active is free again three seconds after it was assigned."""

    def __init__(self) -> None:
        super().__init__()
        self.born: dict[str, float] = {}

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        self.born[order_id] = time.monotonic()
        return super().make(order_id, executor_id, zone_id)

    def find(self, order_id: str) -> Order | None:
        order = super().find(order_id)
        return order if order and (order.is_active or time.monotonic() - self.born[order_id] < LIFETIME_S) else None


# Parameters: missing, invalid, and where they are read from.


@breaks("PARAM-1")
class EmptyIsAccepted(Parameters):
    """An empty parameter is a value like any other."""

    def is_missing(self, values: list[bytes]) -> bool:
        return not values


@breaks("PARAM-1")
class EmptyIsInvalid(Parameters):
    """An empty parameter is invalid instead of missing."""

    def is_missing(self, values: list[bytes]) -> bool:
        return not values

    def wrong(self, text: str) -> str | None:
        return super().wrong(text) if text else "empty"


@breaks("PARAM-2")
class InvalidBeforeMissing(Parameters):
    """An invalid parameter is reported although another one is missing."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        given = self.given(request)
        for name in names:
            if not self.is_missing(given.get(name, [])):
                self.value(name, given[name])
        return super().read(request, names)


@breaks("PARAM-3")
class LimitOf254(Parameters):
    """Identifiers of 255 characters are too long."""

    LIMIT = 254


@breaks("PARAM-3")
class LimitOf100(Parameters):
    """Identifiers of more than 100 characters are too long."""

    LIMIT = 100


@breaks("PARAM-3")
class LimitInBytes(Parameters):
    """The length of an identifier is counted in bytes."""

    def length(self, text: str) -> int:
        return len(text.encode())


@breaks("PARAM-3")
class LimitInUtf16(Parameters):
    """The length of an identifier is counted in UTF-16 units, as JavaScript and Java do."""

    def length(self, text: str) -> int:
        return len(text.encode("utf-16-le")) // 2


@breaks("PARAM-3")
class LimitOnEscaped(Parameters):
    """The length of an identifier is counted as it is in the URL, with its percent-escapes."""

    def length(self, text: str) -> int:
        return len(quote(text))


@breaks("PARAM-3")
class AsciiOnly(Parameters):
    """Only ASCII is accepted."""

    FORBIDDEN = re.compile(r"[^\x20-\x7e]")


@breaks("PARAM-3")
class WordsOnly(Parameters):
    """Only letters, digits, `_` and `-` are accepted."""

    FORBIDDEN = re.compile(r"[^\w-]", re.ASCII)


@breaks("PARAM-3")
class NothingAstral(Parameters):
    """Characters above U+FFFF are refused, as by a database whose UTF-8 has at most three bytes."""

    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\U00010000-\U0010ffff]")


@breaks("PARAM-3")
class NothingC1(Parameters):
    """U+0080 to U+009F count as control characters too."""

    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@breaks("PARAM-3")
class NothingUnprintable(Parameters):
    """What cannot be printed is refused: U+2028, U+FEFF, unassigned characters and others."""

    def wrong(self, text: str) -> str | None:
        return super().wrong(text) or (None if text.isprintable() else "control characters are not allowed")


@breaks("PARAM-3")
class NothingReplaced(Parameters):
    """U+FFFD is refused, since it shows up where something was not UTF-8."""

    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ufffd]")


@breaks("PARAM-3")
class BlankIsMissing(Parameters):
    """A parameter of spaces alone is missing."""

    def is_missing(self, values: list[bytes]) -> bool:
        return not any(value.strip() for value in values)


@breaks("PARAM-3")
class ZeroIsMissing(Parameters):
    """The parameter `0` is missing, since it counts as false."""

    def is_missing(self, values: list[bytes]) -> bool:
        return super().is_missing(values) or values == [b"0"]


@breaks("PARAM-3")
class NullIsMissing(Parameters):
    """The parameters `null`, `None` and `undefined` are missing."""

    def is_missing(self, values: list[bytes]) -> bool:
        return super().is_missing(values) or values[0] in (b"null", b"None", b"undefined")


@breaks("PARAM-4")
class LimitOf256(Parameters):
    """Identifiers of 256 characters are accepted."""

    LIMIT = 256


@breaks("PARAM-4")
class NoLimit(Parameters):
    """Identifiers of any length are accepted."""

    LIMIT = 1 << 30


@breaks("PARAM-4")
class ZoneHasNoLimit(Parameters):
    """Zones of any length are accepted."""

    def value(self, name: str, values: list[bytes]) -> str:
        return self.text(values[0]) if name == "zone_id" and len(values[0]) > 255 else super().value(name, values)


@breaks("PARAM-4")
class TooLongIsCut(Parameters):
    """What is too long is cut to 255 characters."""

    def text(self, value: bytes) -> str:
        return super().text(value)[:255]


@breaks("PARAM-4")
class TooLongIs414(Api):
    """What is too long is answered 414."""

    def invalid(self, name: str, wrong: str) -> Reply:
        reply = super().invalid(name, wrong)
        return replace(reply, status=414) if wrong.startswith("longer") else reply


@breaks("PARAM-4")
class InvalidIs422(Api):
    """Invalid parameters are answered 422."""

    INVALID = 422, Api.INVALID[1]


@breaks("PARAM-4")
class InvalidMisspelled(Api):
    """The message for an invalid parameter begins `Invalid value of`."""

    INVALID = 400, "Invalid value of {}: {}"


@breaks("PARAM-5")
class ControlsAreAccepted(Parameters):
    """Control characters are accepted."""

    FORBIDDEN = re.compile("(?!)")


@breaks("PARAM-5")
class NulIsAccepted(Parameters):
    """U+0000 is accepted."""

    FORBIDDEN = re.compile(r"[\x01-\x1f\x7f]")


@breaks("PARAM-5")
class DelIsAccepted(Parameters):
    """U+007F is accepted."""

    FORBIDDEN = re.compile(r"[\x00-\x1f]")


@breaks("PARAM-5")
class WhiteSpaceIsAccepted(Parameters):
    """Tabs and newlines are accepted."""

    FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@breaks("PARAM-5")
class LastNewlineIsAccepted(Parameters):
    """A newline at the end is accepted: the pattern ends in `$`."""

    def wrong(self, text: str) -> str | None:
        return super().wrong(text.removesuffix("\n"))


@breaks("PARAM-5")
class ControlsAreDropped(Parameters):
    """Control characters are dropped without a word."""

    def text(self, value: bytes) -> str:
        return self.FORBIDDEN.sub("", super().text(value))


@breaks("PARAM-6")
class BrokenUtf8IsReplaced(Parameters):
    """What is not UTF-8 becomes U+FFFD."""

    def text(self, value: bytes) -> str:
        return value.decode(errors="replace")


@breaks("PARAM-6")
class BrokenUtf8IsDropped(Parameters):
    """What is not UTF-8 is dropped."""

    def text(self, value: bytes) -> str:
        return value.decode(errors="ignore")


@breaks("PARAM-6")
class BrokenUtf8IsLatin1(Parameters):
    """What is not UTF-8 is read as Latin-1."""

    def text(self, value: bytes) -> str:
        try:
            return super().text(value)
        except UnicodeDecodeError:
            return value.decode("latin-1")


@breaks("PARAM-6")
class SurrogatesAreAccepted(Parameters):
    """Surrogates are accepted, in three bytes each."""

    def text(self, value: bytes) -> str:
        return value.decode(errors="surrogatepass")


@breaks("PARAM-6")
class OverlongIsAccepted(Parameters):
    """ASCII is accepted in two bytes too."""

    def text(self, value: bytes) -> str:
        overlong = re.compile(rb"[\xc0\xc1][\x80-\xbf]")
        return super().text(overlong.sub(lambda match: bytes([(match[0][0] & 1) << 6 | match[0][1] & 63]), value))


@breaks("PARAM-7")
class FirstOfSeveral(Parameters):
    """Of a parameter that is given more than once, the first value is taken."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, values[:1])


@breaks("PARAM-7")
class LastOfSeveral(Parameters):
    """Of a parameter that is given more than once, the last value is taken."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, values[-1:])


@breaks("PARAM-7")
class SeveralAreJoined(Parameters):
    """The values of a parameter that is given more than once are joined with commas."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, [b",".join(values)])


@breaks("PARAM-7")
class SameTwiceIsAccepted(Parameters):
    """A parameter may be given more than once, if the values are the same."""

    def value(self, name: str, values: list[bytes]) -> str:
        return super().value(name, list(dict.fromkeys(values)))


@breaks("PARAM-8")
class LastInvalidIsNamed(Parameters):
    """Of several invalid parameters the last one is named."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        return super().read(request, names[::-1])


@breaks("PARAM-8")
class InvalidInAlphabeticalOrder(Parameters):
    """Of several invalid parameters the first one in the alphabet is named."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        return super().read(request, sorted(names))


@breaks("PARAM-8")
class RepeatedIsNamedFirst(Parameters):
    """Parameters that are given more than once are reported before those that are otherwise invalid."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        given = self.given(request)
        return super().read(request, sorted(names, key=lambda name: len(given.get(name, [])) < 2))


@breaks("PARAM-9")
class Trimmed(Parameters):
    """White space around identifiers is dropped."""

    def text(self, value: bytes) -> str:
        return super().text(value).strip() or " "


@breaks("PARAM-9")
class Lowercased(Parameters):
    """Identifiers become small letters."""

    def text(self, value: bytes) -> str:
        return super().text(value).lower()


@breaks("PARAM-9")
class NfcNormalised(Parameters):
    """Identifiers are normalised to NFC."""

    def text(self, value: bytes) -> str:
        return unicodedata.normalize("NFC", super().text(value))


@breaks("PARAM-9")
class NfkcNormalised(Parameters):
    """Identifiers are normalised to NFKC."""

    def text(self, value: bytes) -> str:
        return unicodedata.normalize("NFKC", super().text(value))


@breaks("PARAM-9")
class BomStripped(Parameters):
    """U+FEFF at the start of an identifier is dropped."""

    def text(self, value: bytes) -> str:
        return value.decode("utf-8-sig") or "\ufeff"


@breaks("PARAM-9")
class InvisibleDropped(Parameters):
    """Characters that cannot be seen, such as U+200B, are dropped."""

    def text(self, value: bytes) -> str:
        text = super().text(value)
        return "".join(char for char in text if unicodedata.category(char) != "Cf") or text


@breaks("PARAM-9")
class UnescapedTwice(Parameters):
    """Percent-escapes are decoded twice."""

    def text(self, value: bytes) -> str:
        return super().text(unquote_to_bytes(value))


@breaks("PARAM-9")
class EscapedPlusIsASpace(Parameters):
    """`%2B` is a space too: `+` is replaced after the escapes are decoded."""

    def unescape(self, escaped: bytes) -> bytes:
        return super().unescape(escaped).replace(b"+", b" ")


@breaks("PARAM-9")
class SemicolonSeparates(Parameters):
    """`;` separates parameters, as `&` does."""

    def split(self, query: bytes) -> dict[str, list[bytes]]:
        return super().split(re.sub(rb";|%3[Bb]", b"&", query))


@breaks("PARAM-9")
class CutAtHash(Parameters):
    """An identifier ends before its first `#`."""

    def text(self, value: bytes) -> str:
        return super().text(value.partition(b"#")[0] or value)


@breaks("PARAM-9")
class NumbersAreFolded(Parameters):
    """An identifier of digits alone loses its leading zeros: it is read as a number."""

    def text(self, value: bytes) -> str:
        text = super().text(value)
        return str(int(text)) if text.isdecimal() and len(text) < 1000 else text


@breaks("PARAM-9")
class CutTo64(Book):
    """Identifiers are compared by their first 64 characters."""

    def key(self, identifier: str) -> str:
        return identifier[:64]


@breaks("PARAM-9")
class CutTo128(Book):
    """Identifiers are kept as their first 128 characters."""

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return super().make(order_id[:128], executor_id[:128], zone_id[:128])

    def key(self, identifier: str) -> str:
        return identifier[:128]


@breaks("PARAM-9")
class CutTo254(Book):
    """Identifiers are kept as their first 254 characters."""

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return super().make(order_id[:254], executor_id[:254], zone_id[:254])

    def key(self, identifier: str) -> str:
        return identifier[:254]


@breaks("PARAM-9")
class CaseIsIgnored(Book):
    """Identifiers are compared without regard to case."""

    def key(self, identifier: str) -> str:
        return identifier.casefold()


@breaks("PARAM-9")
class AccentsAreIgnored(Book):
    """Identifiers are compared without regard to accents, as by a database with such a collation."""

    def key(self, identifier: str) -> str:
        return "".join(char for char in unicodedata.normalize("NFD", identifier) if not unicodedata.combining(char))


@breaks("PARAM-9")
class TrailingSpacesAreIgnored(Book):
    """Identifiers are compared without the spaces at their end, as CHAR columns are."""

    def key(self, identifier: str) -> str:
        return identifier.rstrip(" ")


@breaks("PARAM-9")
class EquivalentIsTheSame(Book):
    """Identifiers are compared by their NFC."""

    def key(self, identifier: str) -> str:
        return unicodedata.normalize("NFC", identifier)


@breaks("PARAM-9")
class ComparedAsNumbers(Book):
    """Identifiers that look like numbers are compared as numbers: `7`, `07` and `7.0` are the same."""

    def key(self, identifier: str) -> str:
        return str(float(identifier)) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", identifier, re.ASCII) else identifier


@breaks("PARAM-9")
class KeptHtmlEscaped(Book):
    """Identifiers are kept with `&amp;` for `&`."""

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        return super().make(html.escape(order_id), html.escape(executor_id), html.escape(zone_id))

    def key(self, identifier: str) -> str:
        return html.unescape(identifier)


@breaks("PARAM-10")
class PlusIsKept(Parameters):
    """`+` is a plus sign."""

    def unescape(self, escaped: bytes) -> bytes:
        return unquote_to_bytes(escaped)


@breaks("PARAM-11")
class FormFillsIn(Parameters):
    """Parameters that are not in the query string are read from a form in the body."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**self.split(request.body), **super().given(request)}


@breaks("PARAM-11")
class FormOverrides(Parameters):
    """Parameters are read from a form in the body first."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**super().given(request), **self.split(request.body)}


@breaks("PARAM-11")
class FormIsAdded(Parameters):
    """The parameters of a form in the body are added to those of the query string."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        query, form = super().given(request), self.split(request.body)
        return {name: query.get(name, []) + form.get(name, []) for name in query | form}


class _JsonReading(Parameters):
    """Reads JSON as parameters."""

    def json(self, request: Request) -> dict[str, list[bytes]]:
        """Return the parameters in a body of JSON, if it is one."""
        with suppress(ValueError):
            body = json.loads(request.body)
            if isinstance(body, dict):
                return {name: [str(value).encode()] for name, value in body.items()}
        return {}


@breaks("PARAM-11")
class JsonFillsIn(_JsonReading):
    """Parameters that are not in the query string are read from JSON in the body."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**self.json(request), **super().given(request)}


@breaks("PARAM-11")
class JsonOverrides(_JsonReading):
    """Parameters are read from JSON in the body first."""

    def given(self, request: Request) -> dict[str, list[bytes]]:
        return {**super().given(request), **self.json(request)}


@breaks("PARAM-11")
class BrokenJsonIs400(Api):
    """A body that says that it is JSON, and is not, is refused."""

    def run(self, operation: Operation, request: Request) -> Reply:
        if "json" in request.headers.get("content-type", ""):
            try:
                json.loads(request.body)
            except ValueError:
                return self.reply((400, "Problems parsing JSON"))
        return super().run(operation, request)


@breaks("PARAM-11")
class ContentTypeIs415(Api):
    """A body that is neither a form nor without a type is refused."""

    def run(self, operation: Operation, request: Request) -> Reply:
        form = "application/x-www-form-urlencoded"
        if request.body and request.headers.get("content-type", form) != form:
            return self.reply((415, "Unsupported media type"))
        return super().run(operation, request)


@breaks("PARAM-11")
class BodyOfGetIs400(Api):
    """A GET with a body is refused."""

    def run(self, operation: Operation, request: Request) -> Reply:
        return self.bad_request() if request.method == "GET" and request.body else super().run(operation, request)


@breaks("PARAM-11")
class BodyIsNotRead(Connection):
    """A body is left on the connection, where it is taken for the next request."""

    def read_body(self, request: Request) -> None:
        pass


@breaks("PARAM-11")
class ChunksAreNotRead(Connection):
    """A body in chunks is left on the connection, where it is taken for the next request."""

    def read_chunks(self) -> bytes:
        return b""


@breaks("PARAM-12")
class UnknownIsRefused(Parameters):
    """A parameter that the operation does not have is refused."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        values = super().read(request, names)
        for name in self.given(request).keys() - {*names, ""}:
            raise InvalidParameter(name, "unknown parameter")
        return values


@breaks("PARAM-12")
class PairsMustBeComplete(Parameters):
    """A query string in which a part has no `=` is refused."""

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        values = super().read(request, names)
        if not all(b"=" in pair for pair in request.query.split(b"&")):
            raise InvalidParameter(names[0], "broken query string")
        return values


@breaks("PARAM-12")
class NamesInAnyCase(Parameters):
    """`ORDER_ID` is `order_id`."""

    def name(self, name: bytes) -> str:
        return super().name(name).lower()


@breaks("PARAM-12")
class NamesWithBrackets(Parameters):
    """`order_id[]` is `order_id`."""

    def name(self, name: bytes) -> str:
        return super().name(name).removesuffix("[]")


# Wire.


@breaks("WIRE-1")
class PlainText(Api):
    """JSON is sent as `text/plain`."""

    def reply(self, answer: Answer, **more: object) -> Reply:
        reply = super().reply(answer, **more)
        reply.headers["Content-Type"] = "text/plain; charset=utf-8"
        return reply


@breaks("WIRE-1")
class JsonAsHtml(Api):
    """JSON is sent as `text/html`."""

    def reply(self, answer: Answer, **more: object) -> Reply:
        reply = super().reply(answer, **more)
        reply.headers["Content-Type"] = "text/html; charset=utf-8"
        return reply


@breaks("WIRE-1")
class WithoutContentType(Api):
    """Answers have no content type."""

    def reply(self, answer: Answer, **more: object) -> Reply:
        reply = super().reply(answer, **more)
        del reply.headers["Content-Type"]
        return reply


@breaks("WIRE-1")
class SingleQuotes(Api):
    """Answers are Python's way to write a dictionary, not JSON."""

    def encode(self, document: dict[str, object]) -> bytes:
        return str(document).encode()


@breaks("WIRE-1")
class JsonInJson(Api):
    """Answers are a JSON string with the JSON in it."""

    def encode(self, document: dict[str, object]) -> bytes:
        return json.dumps(json.dumps(document)).encode()


@breaks("WIRE-1")
class JsonInLatin1(Api):
    """Answers are in Latin-1 where that is possible."""

    def encode(self, document: dict[str, object]) -> bytes:
        text = json.dumps(document, ensure_ascii=False)
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            return text.encode()


@breaks("WIRE-1")
class MessageInterpolated(Api):
    """The id in cancel's answer is put into the JSON as it is: quotation marks and backslashes break it."""

    def not_active(self, order_id: str) -> Reply:
        reply = super().not_active("\0")
        return replace(reply, content=reply.content.replace(rb"\u0000", order_id.encode()))


@breaks("WIRE-1")
class LengthInCharacters(Api):
    """`Content-Length` counts characters, so that an answer which is not ASCII is cut off."""

    def encode(self, document: dict[str, object]) -> bytes:
        text = json.dumps(document, ensure_ascii=False)
        return text.encode()[: len(text)]


@breaks("WIRE-2")
class NotFoundInHtml(Api):
    """Another path is answered in HTML."""

    def not_found(self) -> Reply:
        return Reply(404, b"<h1>Not Found</h1>", {"Content-Type": "text/html"})


@breaks("WIRE-2")
class NotFoundWithoutMessage(Api):
    """Another path is answered with `detail` in the place of `message`."""

    def not_found(self) -> Reply:
        return replace(super().not_found(), content=b'{"detail": "Not found"}')


@breaks("WIRE-2")
class NotFoundMisspelled(Api):
    """Another path is answered `Not Found`."""

    NOT_FOUND = 404, "Not Found"


@breaks("WIRE-2")
class NotFoundIs200(Api):
    """Another path is answered 200."""

    NOT_FOUND = 200, Api.NOT_FOUND[1]


@breaks("WIRE-2")
class NotFoundRedirects(Api):
    """Another path is led to the documentation."""

    def not_found(self) -> Reply:
        reply = super().not_found()
        return replace(reply, status=302, headers={**reply.headers, "Location": "/docs"})


@breaks("WIRE-2")
class UnderOrderIsAcquire(Api):
    """Any other path under `/order/` is taken for acquire."""

    def route(self, request: Request) -> Reply:
        if request.path.startswith("/order/") and request.path not in self.operations:
            request = replace(request, path=ACQUIRE_PATH)
        return super().route(request)


@breaks("WIRE-2")
class PathsInAnyCase(Api):
    """Capitals in a path make no difference."""

    def route(self, request: Request) -> Reply:
        return super().route(replace(request, path=request.path.lower()))


@breaks("WIRE-3")
class NotAllowedInHtml(Api):
    """Another method is answered in HTML."""

    def not_allowed(self, operation: Operation) -> Reply:
        return Reply(405, b"<h1>Method Not Allowed</h1>", {"Content-Type": "text/html", "Allow": operation.method})


@breaks("WIRE-3")
class NotAllowedMisspelled(Api):
    """Another method is answered `Method Not Allowed`."""

    NOT_ALLOWED = 405, "Method Not Allowed"


@breaks("WIRE-3")
class NotAllowedIs404(Api):
    """Another method is answered 404."""

    def not_allowed(self, operation: Operation) -> Reply:
        return self.not_found()


@breaks("WIRE-3")
class WithoutAllow(Api):
    """Another method is answered without `Allow`."""

    def not_allowed(self, operation: Operation) -> Reply:
        reply = super().not_allowed(operation)
        del reply.headers["Allow"]
        return reply


@breaks("WIRE-3")
class AllowOfAll(Api):
    """`Allow` lists the methods of all paths."""

    def not_allowed(self, operation: Operation) -> Reply:
        reply = super().not_allowed(operation)
        reply.headers["Allow"] = "GET, POST, PUT"
        return reply


@breaks("WIRE-3")
class OptionsIs200(Api):
    """OPTIONS is answered 200."""

    def route(self, request: Request) -> Reply:
        reply = super().route(request)
        return replace(reply, status=200) if request.method == "OPTIONS" and reply.status == 405 else reply


@breaks("WIRE-3")
class UnknownMethodIs501(Api):
    """A method that HTTP does not define is answered 501."""

    METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")

    def route(self, request: Request) -> Reply:
        reply = super().route(request)
        if reply.status != 405 or request.method in self.METHODS:
            return reply
        return self.reply((501, f"Unsupported method {request.method}"))


@breaks("WIRE-3")
class PostAssigns(Api):
    """POST assigns too."""

    def route(self, request: Request) -> Reply:
        if (request.method, request.path) == ("POST", ASSIGN_PATH):
            request = replace(request, method="PUT")
        return super().route(request)


@breaks("WIRE-3")
class DeleteCancels(Api):
    """DELETE cancels too."""

    def route(self, request: Request) -> Reply:
        if (request.method, request.path) == ("DELETE", CANCEL_PATH):
            request = replace(request, method="POST")
        return super().route(request)


@breaks("WIRE-4")
class HeadAcquires(Api):
    """HEAD acquires, as GET does."""

    def route(self, request: Request) -> Reply:
        if (request.method, request.path) == ("HEAD", ACQUIRE_PATH):
            request = replace(request, method="GET")
        return super().route(request)


@breaks("WIRE-4")
class HeadIs200(Api):
    """HEAD on acquire is answered 200, and acquires nothing."""

    def route(self, request: Request) -> Reply:
        if (request.method, request.path) == ("HEAD", ACQUIRE_PATH):
            return self.reply(self.NO_ORDERS)
        return super().route(request)


@breaks("WIRE-4")
class RefusedHeadAcquires(Api):
    """HEAD on acquire is answered 405, and acquires all the same."""

    def route(self, request: Request) -> Reply:
        if (request.method, request.path) == ("HEAD", ACQUIRE_PATH):
            self.book.acquire(fields(request).get("executor_id", ""))
        return super().route(request)


@breaks("WIRE-5")
class HugeUrlIsCut(Connection):
    """In a URL of more than 64 KiB each parameter is cut to 255 bytes, and the request is executed."""

    LIMIT = 1 << 24

    def read_line(self) -> bytes:
        line = super().read_line()
        return re.sub(rb"=([^& ]{255})[^& ]*", rb"=\1", line) if len(line) > 65536 else line


@breaks("WIRE-5")
class BrokenHttpEndsService(Connection):
    """After something that is not HTTP the database stays closed, and every answer is a 500."""

    def refuse(self) -> None:
        del self.api.book
        super().refuse()


@breaks("WIRE-5")
class BrokenHttpForgetsOrders(Connection):
    """Something that is not HTTP starts the service anew, with nothing in its memory."""

    def refuse(self) -> None:
        self.api.book = Book()
        super().refuse()


# Races. In each, time passes between a look and what is done about it.


@breaks("RACE-1")
class AssignLooksFirst(Book):
    """Assign looks whether the order is known before it takes the lock: several say created."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if self.find(order_id):
            return False
        pause()
        with self.lock:
            self.register(self.make(order_id, executor_id, zone_id))
        return True


@breaks("RACE-1")
class AssignReservesFirst(Book):
    """Assign announces the order before it looks for others: of several at once, none says created."""

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


@breaks("RACE-2")
class AssignsComplete(Book):
    """Assign reads which order to complete before it takes the lock: two orders of an executor stay active."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        current = self.current(executor_id)
        pause()
        with self.lock:
            if self.find(order_id):
                return False
            if current and current.is_active:
                self.end(current, COMPLETED)
            self.add(self.make(order_id, executor_id, zone_id))
            return True


@breaks("RACE-2")
class AssignGivesUp(Book):
    """Assign gives up if the executor was assigned something else in between, and says `already exists`."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        current = self.current(executor_id)
        pause()
        with self.lock:
            return self.current(executor_id) is current and super().assign(order_id, executor_id, zone_id)


@breaks("RACE-2")
class AssignsCompleteEachOther(Book):
    """Assign first enters the new order, and then completes all others of the executor: none is left."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if not super().assign(order_id, executor_id, zone_id):
            return False
        pause()
        with self.lock:
            current = self.current(executor_id)
            if current and current.order_id != order_id:
                self.end(current, COMPLETED)
        return True


@breaks("RACE-3")
class CancelLooksFirst(Book):
    """Cancel looks whether the order is active before it takes the lock: several say canceled."""

    def cancel(self, order_id: str) -> bool:
        order = self.find(order_id)
        if order is None or not order.is_active:
            return False
        pause()
        with self.lock:
            self.end(order, CANCELLED)
        return True


@breaks("RACE-4")
class AcquireLooksFirst(Book):
    """Acquire looks whether the order is acquired before it takes the lock: it is acquired at several times."""

    def acquire(self, executor_id: str) -> Profile | None:
        order = self.current(executor_id)
        if order is None or order.execution_status != ASSIGNED:
            return super().acquire(executor_id)
        pause()
        with self.lock:
            if not order.is_active:
                return None
            self.mark(order)
            return self.profile(order)


@breaks("RACE-4")
class AcquireSkipsLocked(Book):
    """Acquire skips an order that another acquire is busy with: of two at once, one has no orders."""

    def __init__(self) -> None:
        super().__init__()
        self.busy: set[str] = set()

    def acquire(self, executor_id: str) -> Profile | None:
        order = self.current(executor_id)
        if order is None or order.execution_status != ASSIGNED:
            return super().acquire(executor_id)
        if order.order_id in self.busy:
            return None
        self.busy.add(order.order_id)
        pause()
        self.busy.discard(order.order_id)
        return super().acquire(executor_id)


@breaks("RACE-5")
class AcquireWritesBack(Book):
    """The first acquire writes the whole order back, also if it was cancelled in between: it is active again."""

    def acquire(self, executor_id: str) -> Profile | None:
        order = self.current(executor_id)
        if order and order.execution_status == ASSIGNED:
            pause()
            with self.lock:
                self.mark(order)
                self.active[executor_id] = order
        return super().acquire(executor_id)


@breaks("RACE-5")
class CancelGivesUp(Book):
    """Cancel gives up if the order was acquired in between, and says that it does not exist."""

    def cancel(self, order_id: str) -> bool:
        order = self.find(order_id)
        status = order.execution_status if order else ""
        pause()
        with self.lock:
            return order is not None and order.execution_status == status and super().cancel(order_id)


@breaks("RACE-6")
class CancelFreesReassigned(Book):
    """Cancel ends an order that a new one has completed in between, and takes the new one from the executor."""

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


@breaks("RACE-7")
class AssignInTwoSteps(Book):
    """Assign completes the old order in one step and enters the new one in another: between them there is none."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if self.find(order_id):
                return False
            if current := self.current(executor_id):
                self.end(current, COMPLETED)
            order = self.orders[order_id] = self.make(order_id, executor_id, zone_id)
        pause()
        with self.lock:
            if order.is_active:
                self.register(order)
        return True


@breaks("RACE-7")
class AssignsOverwriteEachOther(Book):
    """Assign changes a copy of all orders and puts it back: what others did in between is lost."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        active = dict(self.active)
        pause()
        with self.lock:
            self.active = active
            return super().assign(order_id, executor_id, zone_id)


@breaks("RACE-7")
class CachedPerConnection(Connection):
    """Each connection remembers what it last answered to an acquire, until something is changed through it."""

    def setup(self) -> None:
        super().setup()
        self.cache: dict[bytes, Reply] = {}

    def answer(self, request: Request) -> Reply:
        if request.path != ACQUIRE_PATH:
            self.cache.clear()
        if request.method != "GET":
            return super().answer(request)
        if request.query not in self.cache:
            self.cache[request.query] = super().answer(request)
        return self.cache[request.query]


# Retries: answers that are lost and requests that are cut off.


class _Noticing(Connection):
    """Notices that a client has gone before its answer, and calls `lost`."""

    def respond(self, request: Request) -> None:
        reply = self.answer(request)
        if self.is_gone():
            with self.api.book.lock:
                self.lost(request.path, fields(request))
            raise ConnectionAbortedError
        self.send(reply, head_only=request.method == "HEAD", close=not request.keep_alive)

    def is_gone(self) -> bool:
        """Say whether the client has closed or reset the connection, or does so soon."""
        readable, _, _ = select.select([self.connection], [], [], PAUSE_S)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            return True

    def lost(self, path: str, given: dict[str, str]) -> None:
        """Do what is to be done when a client has gone before its answer."""


@breaks("RETRY-1")
class LostAssignIsUndone(_Noticing):
    """An assign whose client has gone is undone, and yet its order stays known."""

    def lost(self, path: str, given: dict[str, str]) -> None:
        if path == ASSIGN_PATH and (order := self.api.book.find(given["order_id"])):
            self.api.book.end(order, COMPLETED)


@breaks("RETRY-2")
class LostAcquireIsCompleted(_Noticing):
    """An acquire whose client has gone leaves the executor without the order."""

    def lost(self, path: str, given: dict[str, str]) -> None:
        if path == ACQUIRE_PATH and (order := self.api.book.current(given["executor_id"])):
            self.api.book.end(order, COMPLETED)


@breaks("RETRY-3")
class LostCancelIsHalfUndone(_Noticing):
    """A cancel whose client has gone gives the executor the order back, which stays cancelled."""

    def lost(self, path: str, given: dict[str, str]) -> None:
        if path == CANCEL_PATH and (order := self.api.book.find(given["order_id"])):
            self.api.book.active[order.executor_id] = order


@breaks("RETRY-4")
class CutOffLineIsEnough(Connection):
    """A first line that is cut off is executed as far as it goes."""

    REQUEST_LINE = re.compile(rb"([A-Z]+) ([^\x00-\x20\x7f]+)(?: HTTP/1\.([01]))?")

    def read_line(self) -> bytes:
        return self.rfile.readline(self.LIMIT).rstrip(b"\r\n")


# Errors.


@breaks("ERROR-1")
class ErrorInMessage(Api):
    """What is not UTF-8 is an internal error, whose text is the message."""

    def invalid(self, name: str, wrong: str) -> Reply:
        if wrong == "not UTF-8":
            raise UnicodeError(f"{name}: invalid start byte")
        return super().invalid(name, wrong)

    def error(self, error: Exception) -> Reply:
        return self.reply((500, str(error)))


@breaks("ERROR-1")
class ErrorWithTraceback(Api):
    """What is too long is an internal error, answered with a traceback beside the message."""

    def invalid(self, name: str, wrong: str) -> Reply:
        if wrong.startswith("longer"):
            raise ValueError(f"value too long for type character varying(255): {name}")
        return super().invalid(name, wrong)

    def error(self, error: Exception) -> Reply:
        return self.reply(self.ERROR, traceback="".join(traceback.format_exception(error)))


@breaks("ERROR-1")
class ErrorInHtml(Api):
    """Control characters are an internal error, answered in HTML."""

    def invalid(self, name: str, wrong: str) -> Reply:
        if wrong.startswith("control"):
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return super().invalid(name, wrong)

    def error(self, error: Exception) -> Reply:
        return Reply(500, b"<h1>Internal Server Error</h1>", {"Content-Type": "text/html"})


@breaks("ERROR-2")
class BrokenUtf8Is500(Api):
    """What is not UTF-8 is an internal error."""

    def invalid(self, name: str, wrong: str) -> Reply:
        return self.reply(self.ERROR) if wrong == "not UTF-8" else super().invalid(name, wrong)


@breaks("ERROR-2")
class TooLongIs500(Api):
    """What is too long for the database is an internal error."""

    def invalid(self, name: str, wrong: str) -> Reply:
        return self.reply(self.ERROR) if wrong.startswith("longer") else super().invalid(name, wrong)


@breaks("ERROR-2")
class AstralIs500(Api):
    """Characters above U+FFFF are an internal error."""

    def acquire(self, executor_id: str) -> Reply:
        if any(char > "\uffff" for char in executor_id):
            raise ValueError("Incorrect string value")
        return super().acquire(executor_id)


@breaks("ERROR-2")
class BracesAre500(Api):
    """Braces in an id that cancel does not find are an internal error: the message is formatted twice."""

    def not_active(self, order_id: str) -> Reply:
        status, message = self.NOT_ACTIVE
        return self.reply((status, message.format(order_id).format()))


@breaks("ERROR-2")
class AstralGetsNoAnswer(Connection):
    """Characters above U+FFFF break the connection before there is an answer."""

    def answer(self, request: Request) -> Reply:
        if max(unquote(request.query.decode("latin-1")), default="") > "\uffff":
            raise ConnectionAbortedError
        return super().answer(request)


@breaks("ERROR-2")
class RacingAssignIs500(Book):
    """An assign that finds only when it writes that the order is known is an internal error."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if self.find(order_id):
            return False
        pause()
        if not super().assign(order_id, executor_id, zone_id):
            raise RuntimeError("UNIQUE constraint failed: assigned_orders.order_id")
        return True


@breaks("ERROR-2")
class LockedIs500(Book):
    """An assign that would have to wait for another one is an internal error."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if not self.lock.acquire(blocking=False):
            raise RuntimeError("database is locked")
        try:
            pause()
            return super().assign(order_id, executor_id, zone_id)
        finally:
            self.lock.release()


FAULTS: tuple[Fault, ...] = tuple(_catalogue)


def sample() -> list[Fault]:
    """Return every tenth of the faults that break each kind of clause: some of everything, in a tenth of the time."""
    kinds: dict[str, list[Fault]] = {}
    for fault in FAULTS:
        kinds.setdefault(fault.clause.partition("-")[0], []).append(fault)
    return [fault for kind in kinds.values() for fault in kind[::10]]
