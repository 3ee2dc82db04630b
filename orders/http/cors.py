"""Cross-origin requests: which web pages may read the answers (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

import re
from collections.abc import Iterable, Mapping

from orders.http.responses import Response, message_response

ANY_ORIGIN = "*"
MAX_AGE_S = 600
ORIGIN = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:]+\])(?::([0-9]{1,5}))?")
DEFAULT_PORTS = {("http", "80"), ("https", "443")}


def check_origin(text: str) -> str:
    """Return `text` if it is an origin as browsers write it (RFC 6454 §6.2), or `*`. Raises ValueError if not."""
    if text == ANY_ORIGIN:
        return text
    parts = ORIGIN.fullmatch(text)
    if parts is None:
        raise ValueError(
            f"{text!r} is not an origin like http://localhost:3000 (in lower case, without a path), and not *"
        )
    if (parts[1], parts[3]) in DEFAULT_PORTS:
        raise ValueError(f"{text!r} is not an origin as browsers write it: they leave :{parts[3]} out")
    return text


class Cors:
    """The origins whose pages may call the service from a browser."""

    def __init__(self, origins: Iterable[str]) -> None:
        """Allow `origins`, each `scheme://host[:port]` as browsers write it, or `*` for all. Raises ValueError."""
        self._origins = frozenset(check_origin(origin) for origin in origins)

    def allows(self, origin: str) -> bool:
        """Return whether pages of an origin may call the service."""
        return self.allows_by_name(origin) or ANY_ORIGIN in self._origins

    def allows_by_name(self, origin: str) -> bool:
        """Return whether an origin is allowed by name, not only by `*`."""
        return origin != ANY_ORIGIN and origin in self._origins

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the CORS headers of an answer. `origin` is the request's `Origin`, or None if it has none."""
        if ANY_ORIGIN in self._origins:
            headers = {"Access-Control-Allow-Origin": ANY_ORIGIN}
        else:
            headers = {"Vary": "Origin"}
            if origin is None or not self.allows_by_name(origin):
                return headers
            headers["Access-Control-Allow-Origin"] = origin
        return {**headers, "Access-Control-Expose-Headers": "Allow, Date, Preference-Applied, Retry-After"}

    def preflight(self, method: str, headers: Mapping[str, str], methods: Iterable[str]) -> Response | None:
        """Return the answer to a preflight, in which a browser asks whether a page may send a request.

        `methods` are those of the path. Return None if the request is not a preflight, or the page is not allowed.
        """
        origin = headers.get("Origin")
        if method != "OPTIONS" or origin is None or "Access-Control-Request-Method" not in headers:
            return None
        if not self.allows(origin):
            return None
        answer = {"Access-Control-Allow-Methods": ", ".join(methods), "Access-Control-Max-Age": str(MAX_AGE_S)}
        if asked := headers.get("Access-Control-Request-Headers"):
            answer["Access-Control-Allow-Headers"] = asked
        return message_response(200, "Allowed", answer)
