"""Faults of cancel."""

import html
from dataclasses import replace
from urllib.parse import quote

from tests.faulty.catalogue import Faults
from tests.faulty.implementation import ASSIGNED, CANCELLED, Api, Response, Store

faults = Faults()


@faults.breaks("CANCEL-1")
class CanceledMisspelled(Api):
    """Cancel answers `Successfully cancelled`, with two l."""

    CANCELED = 200, "Successfully cancelled"


@faults.breaks("CANCEL-1")
class CanceledIs204(Api):
    """Cancel answers 204 without a body."""

    def canceled(self, order_id: str) -> Response:
        return replace(super().canceled(order_id), status=204, content=b"")


@faults.breaks("CANCEL-1")
class CancelRefusesAssigned(Store):
    """Cancel works only on an order that was acquired."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            return order is not None and order.acquire_time is not None and super().cancel(order_id)


@faults.breaks("CANCEL-1")
class CancelLooksTooLate(Api):
    """Cancel checks the order after it has cancelled it, and answers that it was already cancelled."""

    def canceled(self, order_id: str) -> Response:
        return self.not_active(order_id)


@faults.breaks("CANCEL-2")
class CancelMissingMisspelled(Api):
    """If `order_id` is missing, the message of cancel begins with `Missing parameter`."""

    CANCEL_MISSING = 400, "Missing parameter, please provide order_id"


@faults.breaks("CANCEL-2")
class CancelMissingIs422(Api):
    """If `order_id` is missing, cancel answers 422."""

    CANCEL_MISSING = 422, Api.CANCEL_MISSING[1]


@faults.breaks("CANCEL-2")
class CancelMissingNotFound(Api):
    """If `order_id` is missing, cancel answers that the order does not exist."""

    CANCEL_MISSING = 200, Api.NOT_ACTIVE[1].format("")


@faults.breaks("CANCEL-3")
class NotActiveMisspelled(Api):
    """The message for an order that is not active says `been cancelled`, with two l."""

    NOT_ACTIVE = 200, "AssignedOrder with OrderId {} does not exist or has already been cancelled"


@faults.breaks("CANCEL-3")
class NotActiveIs404(Api):
    """Cancel answers 404 for an order that is not active."""

    NOT_ACTIVE = 404, Api.NOT_ACTIVE[1]


@faults.breaks("CANCEL-3")
class UnknownIsCanceled(Api):
    """Cancel answers `Successfully canceled` for an unknown order."""

    def cancel(self, order_id: str) -> Response:
        return super().cancel(order_id) if self.store.find(order_id) else self.canceled(order_id)


@faults.breaks("CANCEL-3")
class CancelledTwice(Store):
    """Cancel answers `Successfully canceled` again for a cancelled order."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            return super().cancel(order_id) or (order is not None and order.execution_status == CANCELLED)


@faults.breaks("LIFE-1")
class CompletedIsCancelled(Store):
    """Cancel also cancels completed orders."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            if order is None or order.execution_status == CANCELLED:
                return False
            self.end(order, CANCELLED)
            return True


@faults.breaks("CANCEL-4")
class CancelRefusesAcquired(Store):
    """Cancel works only on an order that was not acquired yet."""

    def cancel(self, order_id: str) -> bool:
        with self.lock:
            order = self.find(order_id)
            return order is not None and order.execution_status == ASSIGNED and super().cancel(order_id)


@faults.breaks("CANCEL-5")
class EchoMissing(Api):
    """Cancel leaves the id out of its message."""

    NOT_ACTIVE = 200, "AssignedOrder with OrderId does not exist or has already been canceled"


@faults.breaks("CANCEL-5")
class EchoTemplate(Api):
    """Cancel answers with `$$order_id`, as the document has it, instead of the id."""

    NOT_ACTIVE = 200, Api.NOT_ACTIVE[1].format("$$order_id")


@faults.breaks("CANCEL-5")
class EchoLowercased(Api):
    """Cancel converts the id in its message to lower case."""

    def not_active(self, order_id: str) -> Response:
        return super().not_active(order_id.lower())


@faults.breaks("CANCEL-5")
class EchoTrimmed(Api):
    """Cancel trims the id in its message."""

    def not_active(self, order_id: str) -> Response:
        return super().not_active(order_id.strip())


@faults.breaks("CANCEL-5")
class EchoPercentEncoded(Api):
    """Cancel percent-encodes the id in its message."""

    def not_active(self, order_id: str) -> Response:
        return super().not_active(quote(order_id, safe=""))


@faults.breaks("CANCEL-5")
class EchoHtmlEscaped(Api):
    """Cancel escapes the id in its message for HTML."""

    def not_active(self, order_id: str) -> Response:
        return super().not_active(html.escape(order_id))


@faults.breaks("CANCEL-5")
class EchoQuoted(Api):
    """Cancel puts quotation marks around the id in its message."""

    def not_active(self, order_id: str) -> Response:
        return super().not_active(f'"{order_id}"')


@faults.breaks("CANCEL-5")
class EchoExecutor(Api):
    """Cancel puts the executor's id into its message instead of the order's."""

    def not_active(self, order_id: str) -> Response:
        order = self.store.find(order_id)
        return super().not_active(order.executor_id if order else order_id)
