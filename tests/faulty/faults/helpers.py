"""Helpers that several modules of faults share."""

import time
from urllib.parse import parse_qsl

from tests.faulty.implementation import Order, Request, Store

PAUSE_S = 0.005


def pause() -> None:
    """Wait long enough for another request to come between two steps."""
    time.sleep(PAUSE_S)


def query_fields(request: Request) -> dict[str, str]:
    """Return the parameters in the query string of a request, unchecked."""
    return dict(parse_qsl(request.query.decode("latin-1")))


class RefusedAssign(Store):
    """Calls `refused` before it refuses an assign."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        with self.lock:
            if known := self.find(order_id):
                self.refused(known, executor_id, zone_id)
            return super().assign(order_id, executor_id, zone_id)

    def refused(self, known: Order, executor_id: str, zone_id: str) -> None:
        """Do something that a refused assign must not do."""
