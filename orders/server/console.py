"""What `orders serve` prints to a terminal when it has started."""

import os

from orders.contract import RESERVED_PREFIX, Contract

BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def welcome(url: str, contract: Contract, *, controls: bool, colour: bool) -> str:
    """Return lines for a terminal: the URLs of the documentation, the operations, and the controls if they are on."""
    bold, dim, plain = (BOLD, DIM, PLAIN) if colour else ("", "", "")
    lines = [f"  {'docs':8}{bold}{url}/docs{plain}"]
    for operation in contract.operations:
        name = operation.operation_id.removesuffix("_order")
        query = "&".join(f"{parameter.name}=…" for parameter in operation.parameters)
        lines.append(f"  {name:8}{operation.method:5}{url}{operation.path}{dim}?{query}{plain}")
    if controls:
        lines.append(f"  {'control':8}{'POST':5}{url}{RESERVED_PREFIX}controls/reset{dim}, and more: see docs{plain}")
    return "\n".join([*lines, f"  {dim}Ctrl-C stops the server.{plain}"])


def has_colour(file: int) -> bool:
    """Return whether a file descriptor is a terminal that shows colours, and its user wants them (https://no-color.org)."""
    return os.isatty(file) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
