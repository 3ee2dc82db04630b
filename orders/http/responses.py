"""What goes back to a client: a status, a body and headers."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

# A status that is not here, for example 520 from a gateway, is sent without a phrase (RFC 9112 §4).
REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Response:
    """A response. When it is sent, it also gets `Content-Length`, `Date` and `Cache-Control`."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with `content` as JSON in UTF-8."""
    body = json.dumps(content, ensure_ascii=False).encode()
    return Response(status, body, headers=headers or {})


def message_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose JSON is an object with a `message`, as every answer of the API is (D11)."""
    return json_response(status, {"message": message}, headers)


def first_half(response: Response) -> Response:
    """Return a response with the first half of the body, and the `Content-Length` of the whole."""
    body = response.body
    headers = {**response.headers, "Content-Length": str(len(body))}
    return replace(response, body=body[: len(body) // 2], headers=headers)


def as_bytes(response: Response) -> bytes:
    """Return a response as it is sent, for a connection that Tornado does not write to."""
    lines = [
        f"HTTP/1.1 {response.status} {REASONS.get(response.status, '')}",
        *(f"{name}: {value}" for name, value in headers_of(response).items()),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + response.body


def headers_of(response: Response) -> dict[str, str]:
    """Return all headers of a response that is sent now."""
    return {
        "Date": http_date(int(time.time())),
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "Cache-Control": "no-store",
        **response.headers,
    }


@lru_cache(maxsize=1)
def http_date(second: int) -> str:
    """Return a Unix time in the format of `Date` (RFC 9110 §5.6.7). It is formatted once per second."""
    return formatdate(second, usegmt=True)
