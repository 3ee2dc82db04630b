"""Sockets that listen: opened, named, and closed without cutting anybody off."""

import ctypes
import logging
import socket
import struct

from tornado.netutil import bind_sockets

logger = logging.getLogger("orders")

BACKLOG = 1024

# What Linux calls SO_ATTACH_FILTER; Python's `socket` has no name for it.
ATTACH_FILTER = 26

# A program for the kernel's packet filter, which it runs on each TCP segment for the socket: the code of an
# instruction, by how many to jump on if it is true and if it is false, its operand.
DROP_SYN = (
    (0x30, 0, 0, 13),  # load the 13th byte of the segment, the flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then keep nothing of the segment
    (0x06, 0, 0, 0xFFFFFFFF),  # otherwise all of it
)


class CannotListen(Exception):
    """The address is not there, or taken."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on `host`, on a free port if `port` is 0. Raises CannotListen."""
    try:
        return bind_sockets(port, host, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error


def url_of(listener: socket.socket) -> str:
    """Return the URL of what is served on a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def keep_newcomers_out(listener: socket.socket) -> None:
    """Let nobody begin to connect to a listening socket from now on, in any process; who has begun may go on.

    The kernel connects clients by itself, also between the last `accept` and `close`, which cuts them off; nothing in
    POSIX prevents it. A client that comes now hears nothing, tries again after a second, and is refused by then.
    """
    instructions = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN)
    memory = ctypes.create_string_buffer(instructions)
    program = struct.pack("HP", len(DROP_SYN), ctypes.addressof(memory))
    try:
        listener.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)
    except OSError as error:  # A system that imitates Linux may lack it.
        logger.debug("who connects during the stop may be cut off: %s", error.strerror)
