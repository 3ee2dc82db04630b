"""Faults in errors: a 500 that reveals something, and internal errors that should not happen."""

import traceback
from urllib.parse import unquote

from tests.faulty.catalogue import Faults
from tests.faulty.faults.helpers import pause
from tests.faulty.implementation import Api, Connection, Request, Response, Store

faults = Faults()


@faults.breaks("ERROR-1")
class ErrorInMessage(Api):
    """A value that is not UTF-8 causes an internal error, whose text is the message."""

    def invalid(self, name: str, problem: str) -> Response:
        if problem == "not UTF-8":
            raise UnicodeError(f"{name}: invalid start byte")
        return super().invalid(name, problem)

    def error(self, error: Exception) -> Response:
        return self.reply((500, str(error)))


@faults.breaks("ERROR-1")
class ErrorWithTraceback(Api):
    """A value that is too long causes an internal error, and the answer has a traceback."""

    def invalid(self, name: str, problem: str) -> Response:
        if problem.startswith("longer"):
            raise ValueError(f"value too long for type character varying(255): {name}")
        return super().invalid(name, problem)

    def error(self, error: Exception) -> Response:
        return self.reply(self.ERROR, traceback="".join(traceback.format_exception(error)))


@faults.breaks("ERROR-1")
class ErrorInHtml(Api):
    """A control character causes an internal error, which is answered in HTML."""

    def invalid(self, name: str, problem: str) -> Response:
        if problem.startswith("control"):
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return super().invalid(name, problem)

    def error(self, error: Exception) -> Response:
        return Response(500, b"<h1>Internal Server Error</h1>", {"Content-Type": "text/html"})


@faults.breaks("ERROR-2")
class BrokenUtf8Is500(Api):
    """A value that is not UTF-8 causes an internal error."""

    def invalid(self, name: str, problem: str) -> Response:
        return self.reply(self.ERROR) if problem == "not UTF-8" else super().invalid(name, problem)


@faults.breaks("ERROR-2")
class TooLongIs500(Api):
    """A value that is too long causes an internal error."""

    def invalid(self, name: str, problem: str) -> Response:
        return self.reply(self.ERROR) if problem.startswith("longer") else super().invalid(name, problem)


@faults.breaks("ERROR-2")
class AstralIs500(Api):
    """A character above U+FFFF causes an internal error."""

    def acquire(self, executor_id: str) -> Response:
        if any(char > "\uffff" for char in executor_id):
            raise ValueError("Incorrect string value")
        return super().acquire(executor_id)


@faults.breaks("ERROR-2")
class BracesAre500(Api):
    """Braces in the id of an unknown order cause an internal error, because the message is formatted twice."""

    def not_active(self, order_id: str) -> Response:
        status, message = self.NOT_ACTIVE
        return self.reply((status, message.format(order_id).format()))


@faults.breaks("ERROR-2")
class AstralGetsNoAnswer(Connection):
    """A character above U+FFFF breaks the connection before the answer is sent."""

    def answer(self, request: Request) -> Response:
        if max(unquote(request.query.decode("latin-1")), default="") > "\uffff":
            raise ConnectionAbortedError
        return super().answer(request)


@faults.breaks("ERROR-2")
class RacingAssignIs500(Store):
    """An assign that loses a race for an order id causes an internal error: the database refuses its insert."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if self.find(order_id):
            return False
        pause()
        if not super().assign(order_id, executor_id, zone_id):
            raise RuntimeError("UNIQUE constraint failed: assigned_orders.order_id")
        return True


@faults.breaks("ERROR-2")
class LockedIs500(Store):
    """An assign that would have to wait for another one causes an internal error."""

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        if not self.lock.acquire(blocking=False):
            raise RuntimeError("database is locked")
        try:
            pause()
            return super().assign(order_id, executor_id, zone_id)
        finally:
            self.lock.release()
