"""Logs internal errors: the first of a kind with its traceback, and then, each second, how many more there were."""

import asyncio
import logging
import re
from collections import Counter
from uuid import uuid4

logger = logging.getLogger("orders")

COUNT_INTERVAL_S = 1.0
# Two errors are alike if they have the same type and the same message, apart from numbers.
Kind = tuple[type[Exception], str]


class ErrorLog:
    """The internal errors of a process. Use it on the event loop's thread only."""

    def __init__(self) -> None:
        # Kind -> the id of the error in the log. After an interval without another error of the kind, it is forgotten.
        self._ids: dict[Kind, str] = {}
        self._counts: Counter[Kind] = Counter()

    def add(self, error: Exception, request: str) -> str:
        """Log an error, or count it if the log has one of its kind. Return the id of the error that is in the log."""
        kind = kind_of(error)
        if kind not in self._ids:
            self._ids[kind] = uuid4().hex
            logger.error("internal error %s: %s", self._ids[kind], request, exc_info=error)
            asyncio.get_running_loop().call_later(COUNT_INTERVAL_S, self._report, kind)
        else:
            self._counts[kind] += 1
        return self._ids[kind]

    def _report(self, kind: Kind) -> None:
        count = self._counts.pop(kind, 0)
        if count == 0:
            del self._ids[kind]
            return
        logger.error("internal error %s: %d more like it", self._ids[kind], count)
        asyncio.get_running_loop().call_later(COUNT_INTERVAL_S, self._report, kind)


def kind_of(error: Exception) -> Kind:
    """Return the type of an error and its message without numbers."""
    return type(error), re.sub(r"\d+", "", str(error))
