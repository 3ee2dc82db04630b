"""A client's connection: what Tornado's own stream leaves open.

- Tornado answers a message that is not a request with a status line alone. The contract wants JSON (D11).
- Tornado carries out requests that a client has sent behind its last one: behind `Connection: close`, behind HTTP/1.0,
  or behind the last answer of a server that stops. They must not be carried out (RFC 9112 §9.6).
- Tornado takes `Connection: close` for the end only if it is the only option of the header (RFC 9110 §7.6.1).
"""

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any

from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError

from orders.http.responses import Response, as_bytes

# This is how Tornado answers a message that it cannot read.
TORNADO_REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"


class Stream(IOStream):
    """A client's connection. Tornado's HTTP server reads requests from it and writes responses to it."""

    def __init__(self, connection: socket.socket, refusal: Response) -> None:
        super().__init__(connection)
        self._refusal = refusal
        self._client_has_left = False
        # Whether the connection closes after the response to the request that is being read or answered.
        self.is_last_request = False

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Read the head of the next request, unless there must be none."""
        if self.is_last_request:
            self.close()
        if self.closed() and not self._client_has_left:
            # More requests may wait in the buffer.
            raise StreamClosedError(real_error=self.error)
        return super().read_until_regex(regex, max_bytes)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read from the socket, and note whether the client has closed it."""
        count = super().read_from_fd(buf)
        self._client_has_left |= count == 0
        return count

    def write(self, data: bytes | memoryview) -> "asyncio.Future[None]":
        """Write data. Replace Tornado's own refusal, which has no body."""
        if data == TORNADO_REFUSAL:
            data = as_bytes(self._refusal)
        return super().write(data)

    def refuse(self) -> None:
        """Refuse the request that is being read, and close the connection."""
        self.write(as_bytes(self._refusal))
        self.close()

    def close(self, exc_info: Any = False) -> None:
        """Close the connection. First refuse headers that are too long, which Tornado does not answer."""
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            self.write(TORNADO_REFUSAL)
        super().close(exc_info)
