"""Opens listening sockets, and names their URLs."""

import socket

from tornado.netutil import bind_sockets

BACKLOG = 1024


class CannotListen(Exception):
    """The address does not exist or is taken."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on `host` and `port`, or on a free port if `port` is 0. Raises CannotListen."""
    try:
        return bind_sockets(port, host, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
