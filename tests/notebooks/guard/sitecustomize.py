"""Blocks internet access of a process with this folder in PYTHONPATH, and of the Python processes that it starts."""

import sys
from ipaddress import ip_address
from typing import Any


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise PermissionError when a socket connects or sends to another host, or a name is looked up."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        # The address of a Unix socket is not a tuple. A connected socket was checked when it connected.
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"
        local = host == "localhost" or (is_address(host) and ip_address(host).is_loopback)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
        local = host in (None, "", "localhost") or is_address(host)
    else:
        return
    if not local:
        raise PermissionError(f"{event}: notebooks have no internet, so {host} is out of reach")


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, which needs no lookup."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


sys.addaudithook(refuse)
