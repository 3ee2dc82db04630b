"""What goes back to a client: a status, a body and headers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Response:
    """A response, ready to be sent. `Content-Length`, `Date` and `Cache-Control` are added when it is."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with `content` as JSON in UTF-8."""
    body = json.dumps(content, ensure_ascii=False).encode()
    return Response(status, body, headers=headers or {})


def message_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the JSON that every answer of the service is, an object with a `message` (D11)."""
    return json_response(status, {"message": message}, headers)


def method_not_allowed(methods: list[str]) -> Response:
    """Return a 405 that lists the methods that the path has (RFC 9110 §15.5.6)."""
    return message_response(405, "Method not allowed", {"Allow": ", ".join(methods)})


BAD_REQUEST = message_response(400, "Bad request")
NOT_FOUND = message_response(404, "Not found")
UNKNOWN_ERROR = message_response(500, "Unknown error")
