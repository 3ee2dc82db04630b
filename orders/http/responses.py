"""What goes back to a client: a status, a body and headers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


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
