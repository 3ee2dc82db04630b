"""Cross-origin requests: which web pages may read the answers (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from collections.abc import Mapping, Sequence

from orders.responses import Response, message_response

ANY_ORIGIN = "*"
MAX_AGE_S = 600


class Cors:
    """The origins whose pages may call the service from a browser."""

    def __init__(self, origins: Sequence[str]) -> None:
        """Allow `origins`, each `scheme://host[:port]` as browsers write it, or `*` for all."""
        self._origins = frozenset(origins)

    def allows(self, origin: str) -> bool:
        """Return whether pages of an origin may read answers."""
        return origin in self._origins or ANY_ORIGIN in self._origins

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return what an answer to a request from an origin says of it; None stands for no page at all."""
        if ANY_ORIGIN in self._origins:
            allowed = {"Access-Control-Allow-Origin": ANY_ORIGIN}
        else:
            allowed = {"Vary": "Origin"}
            if origin is None or origin not in self._origins:
                return allowed
            allowed["Access-Control-Allow-Origin"] = origin
        return {**allowed, "Access-Control-Expose-Headers": "Allow, Date, Preference-Applied"}

    def preflight(self, method: str, headers: Mapping[str, str], methods: Sequence[str]) -> Response | None:
        """Return the answer to a browser that asks, before a request, whether a page may send it.

        `methods` are those of the path. None means that this is no such question, or not from an allowed page.
        """
        origin = headers.get("Origin")
        if method != "OPTIONS" or origin is None or "Access-Control-Request-Method" not in headers:
            return None
        if not self.allows(origin):
            return None
        allowed = {"Access-Control-Allow-Methods": ", ".join(methods), "Access-Control-Max-Age": str(MAX_AGE_S)}
        if "Access-Control-Request-Headers" in headers:
            allowed["Access-Control-Allow-Headers"] = headers["Access-Control-Request-Headers"]
        return message_response(200, "Allowed", allowed)
