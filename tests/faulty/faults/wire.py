"""Faults in HTTP: content types, encodings, paths, methods, broken requests."""

import json
import re
from dataclasses import replace

from tests.faulty.catalogue import Faults
from tests.faulty.faults.helpers import query_fields
from tests.faulty.implementation import (
    ACQUIRE_PATH,
    ASSIGN_PATH,
    CANCEL_PATH,
    Api,
    Connection,
    Operation,
    Request,
    Response,
    Store,
)

faults = Faults()


@faults.breaks("WIRE-1")
class PlainText(Api):
    """JSON is sent as `text/plain`."""

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "Content-Type": "text/plain; charset=utf-8"}


@faults.breaks("WIRE-1")
class JsonAsHtml(Api):
    """JSON is sent as `text/html`."""

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "Content-Type": "text/html; charset=utf-8"}


@faults.breaks("WIRE-1")
class WithoutContentType(Api):
    """Answers have no content type."""

    def headers(self) -> dict[str, str]:
        return {"Cache-Control": "no-store"}


@faults.breaks("WIRE-1")
class SingleQuotes(Api):
    """Answers are written as Python dictionaries, not as JSON."""

    def encode(self, document: dict[str, object]) -> bytes:
        return str(document).encode()


@faults.breaks("WIRE-1")
class JsonInJson(Api):
    """Answers are JSON strings that contain JSON."""

    def encode(self, document: dict[str, object]) -> bytes:
        return json.dumps(json.dumps(document)).encode()


@faults.breaks("WIRE-1")
class JsonInLatin1(Api):
    """Answers are encoded as Latin-1 where that is possible."""

    def encode(self, document: dict[str, object]) -> bytes:
        text = json.dumps(document, ensure_ascii=False)
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            return text.encode()


@faults.breaks("WIRE-1", "CANCEL-5")
class MessageInterpolated(Api):
    """Cancel puts the id into the JSON without escaping it, so that quotation marks break the JSON."""

    def not_active(self, order_id: str) -> Response:
        response = super().not_active("\0")
        return replace(response, content=response.content.replace(rb"\u0000", order_id.encode()))


@faults.breaks("WIRE-1")
class LengthInCharacters(Api):
    """`Content-Length` counts characters, so that answers with non-ASCII characters are cut off."""

    def encode(self, document: dict[str, object]) -> bytes:
        text = json.dumps(document, ensure_ascii=False)
        return text.encode()[: len(text)]


@faults.breaks("ASSIGN-1", "CANCEL-3")
class WritesNeedToken(Api):
    """Each PUT and POST is refused with 403 in HTML, because it has no token."""

    def run(self, operation: Operation, request: Request) -> Response:
        if operation.method == "GET":
            return super().run(operation, request)
        return Response(403, b"<h1>Forbidden</h1>", {"Content-Type": "text/html"})


@faults.breaks("WIRE-2")
class NotFoundInHtml(Api):
    """An unknown path is answered in HTML."""

    def not_found(self) -> Response:
        return Response(404, b"<h1>Not Found</h1>", {"Content-Type": "text/html"})


@faults.breaks("WIRE-2")
class NotFoundWithoutMessage(Api):
    """An unknown path is answered with `detail` instead of `message`."""

    def not_found(self) -> Response:
        return replace(super().not_found(), content=b'{"detail": "Not found"}')


@faults.breaks("WIRE-2")
class NotFoundMisspelled(Api):
    """An unknown path is answered with `Not Found`."""

    NOT_FOUND = 404, "Not Found"


@faults.breaks("WIRE-2")
class NotFoundIs200(Api):
    """An unknown path is answered with 200."""

    NOT_FOUND = 200, Api.NOT_FOUND[1]


@faults.breaks("WIRE-2")
class NotFoundRedirects(Api):
    """An unknown path is redirected to the documentation."""

    def not_found(self) -> Response:
        response = super().not_found()
        return replace(response, status=302, headers={**response.headers, "Location": "/docs"})


@faults.breaks("WIRE-2")
class UnderOrderIsAcquire(Api):
    """An unknown path under `/order/` runs acquire."""

    def route(self, request: Request) -> Response:
        if request.path.startswith("/order/") and request.path not in self.operations:
            request = replace(request, path=ACQUIRE_PATH)
        return super().route(request)


@faults.breaks("WIRE-2")
class PathsInAnyCase(Api):
    """Paths are case-insensitive."""

    def route(self, request: Request) -> Response:
        return super().route(replace(request, path=request.path.lower()))


@faults.breaks("WIRE-3")
class NotAllowedInHtml(Api):
    """A wrong method is answered in HTML."""

    def not_allowed(self, operation: Operation) -> Response:
        return Response(405, b"<h1>Method Not Allowed</h1>", {"Content-Type": "text/html", "Allow": operation.method})


@faults.breaks("WIRE-3")
class NotAllowedMisspelled(Api):
    """A wrong method is answered with `Method Not Allowed`."""

    NOT_ALLOWED = 405, "Method Not Allowed"


@faults.breaks("WIRE-3")
class NotAllowedIs404(Api):
    """A wrong method is answered with 404."""

    def not_allowed(self, operation: Operation) -> Response:
        return self.not_found()


@faults.breaks("WIRE-3")
class WithoutAllow(Api):
    """A wrong method is answered without `Allow`."""

    def not_allowed(self, operation: Operation) -> Response:
        response = super().not_allowed(operation)
        del response.headers["Allow"]
        return response


@faults.breaks("WIRE-3")
class AllowListsAllMethods(Api):
    """`Allow` lists the methods of all paths."""

    def not_allowed(self, operation: Operation) -> Response:
        response = super().not_allowed(operation)
        response.headers["Allow"] = "GET, POST, PUT"
        return response


@faults.breaks("WIRE-3")
class OptionsIs200(Api):
    """OPTIONS is answered with 200."""

    def route(self, request: Request) -> Response:
        response = super().route(request)
        return replace(response, status=200) if request.method == "OPTIONS" and response.status == 405 else response


@faults.breaks("WIRE-3")
class UnknownMethodIs501(Api):
    """A method that HTTP does not define is answered with 501."""

    METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")

    def route(self, request: Request) -> Response:
        response = super().route(request)
        if response.status != 405 or request.method in self.METHODS:
            return response
        return self.reply((501, f"Unsupported method {request.method}"))


@faults.breaks("WIRE-3")
class PostAssigns(Api):
    """POST runs assign too."""

    def route(self, request: Request) -> Response:
        if (request.method, request.path) == ("POST", ASSIGN_PATH):
            request = replace(request, method="PUT")
        return super().route(request)


@faults.breaks("WIRE-3")
class DeleteCancels(Api):
    """DELETE runs cancel too."""

    def route(self, request: Request) -> Response:
        if (request.method, request.path) == ("DELETE", CANCEL_PATH):
            request = replace(request, method="POST")
        return super().route(request)


@faults.breaks("WIRE-3")
class MethodFromHeader(Api):
    """The method is that in the header `X-HTTP-Method-Override`, if there is one."""

    def route(self, request: Request) -> Response:
        return super().route(replace(request, method=request.headers.get("x-http-method-override", request.method)))


@faults.breaks("WIRE-4")
class HeadAcquires(Api):
    """HEAD runs acquire, as GET does."""

    def route(self, request: Request) -> Response:
        if (request.method, request.path) == ("HEAD", ACQUIRE_PATH):
            request = replace(request, method="GET")
        return super().route(request)


@faults.breaks("WIRE-4")
class HeadIs200(Api):
    """HEAD on acquire is answered with 200, but acquires nothing."""

    def route(self, request: Request) -> Response:
        if (request.method, request.path) == ("HEAD", ACQUIRE_PATH):
            return self.reply(self.NO_ORDERS)
        return super().route(request)


@faults.breaks("WIRE-6")
class WholeUrlIsNotFound(Connection):
    """A target that is a whole URL is taken for a path, which is not found."""

    ORIGIN = re.compile(rb"(?!)")


@faults.breaks("WIRE-4")
class RefusedHeadAcquires(Api):
    """HEAD on acquire is answered with 405, but acquires the order."""

    def route(self, request: Request) -> Response:
        if (request.method, request.path) == ("HEAD", ACQUIRE_PATH):
            self.store.acquire(query_fields(request).get("executor_id", ""))
        return super().route(request)


@faults.breaks("WIRE-5")
class HugeUrlIsCut(Connection):
    """If a URL is longer than 64 KiB, its parameters are cut to 255 bytes and the request is executed."""

    LIMIT = 1 << 24

    def read_line(self) -> bytes:
        line = super().read_line()
        return re.sub(rb"=([^& ]{255})[^& ]*", rb"=\1", line) if len(line) > 65536 else line


@faults.breaks("WIRE-5")
class BrokenHttpEndsService(Connection):
    """After broken HTTP the connection to the database stays closed: every answer is a 500."""

    def refuse(self) -> None:
        del self.api.store
        super().refuse()


@faults.breaks("WIRE-5")
class BrokenHttpForgetsOrders(Connection):
    """Broken HTTP restarts the server, which forgets all orders."""

    def refuse(self) -> None:
        self.api.store = Store()
        super().refuse()
