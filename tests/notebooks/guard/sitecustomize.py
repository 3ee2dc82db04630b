"""No internet for a process whose PYTHONPATH has this folder, nor for the Python processes that it starts."""

import sys
from ipaddress import ip_address
from typing import Any


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise PermissionError where a socket is about to leave the machine, or a name is looked up."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        # The address of a Unix socket is no tuple; a socket that is connected has been seen when it was.
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"
        here = host == "localhost" or (is_address(host) and ip_address(host).is_loopback)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
        here = host in (None, "", "localhost") or is_address(host)
    else:
        return
    if not here:
        raise PermissionError(f"{event}: a notebook has no internet, so no {host}")


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, for which nobody else needs to be asked."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


sys.addaudithook(refuse)
