"""The command `orders`: options and environment variables in, an exit code out.

0   stopped by SIGTERM or SIGINT
1   cannot start: the port is taken, the database cannot be used, the contract is broken, …
2   bad options or environment variables
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from orders import __version__
from orders.database import DatabaseURL, DatabaseURLError
from orders.logs import LEVELS
from orders.server import CannotStart, run
from orders.settings import Settings

BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, or what is on the command line; return its exit code."""
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: sys.exit(0))
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # The next file or socket would otherwise get the number of the closed stream, and the log with it.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    settings = parse(sys.argv[1:] if argv is None else argv, os.environ)
    try:
        run(settings)
    except CannotStart as error:
        print(f"orders: {error}", file=sys.stderr)
        return 1
    return 0


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings, the command line before the environment before the defaults.

    Exits with 2 and one line on standard error if one of them makes no sense.
    """
    parser = Parser(prog="orders", description="The reference implementation of the orders service API.")
    parser.add_argument("--version", action="version", version=f"orders {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="run the server",
        description="Run the orders service. Every option can also be given as an environment variable: "
        "--port as ORDERS_PORT, --no-access-log as ORDERS_ACCESS_LOG=0, and so on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    serve.add_argument("--host", type=host, default="127.0.0.1", help="the address to listen on")
    serve.add_argument("--port", type=number(int, 0, 65535), default=8080, help="the port; 0 takes a free one")
    serve.add_argument("--workers", type=number(int, 1, 1024), default=1, help="how many processes serve")
    serve.add_argument(
        "--database",
        type=database_url,
        metavar="URL",
        default="sqlite:///orders.db",
        help="sqlite:///relative.db, sqlite:////absolute.db or sqlite:///:memory:",
    )
    serve.add_argument(
        "--idle-timeout",
        type=number(float, 0.1, 86400),
        metavar="SECONDS",
        default=30.0,
        help="close a connection that takes longer than this to send a request",
    )
    serve.add_argument(
        "--access-log", action=argparse.BooleanOptionalAction, default=True, help="log each request (level info)"
    )
    serve.add_argument("--log-level", choices=LEVELS, default="info", help="log this level and above")
    serve.read_environment(environment)
    settings = Settings(**vars(parser.parse_args(argv)))
    if settings.database.in_memory and settings.workers > 1:
        serve.error("--workers above 1 needs a database file: each process would have a :memory: database of its own")
    return settings


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line and takes defaults from the environment."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and one line."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def read_environment(self, environment: Mapping[str, str]) -> None:
        """Make ORDERS_X the default of the option --x. A variable that is empty counts as not set."""
        for action in self._actions:
            name = f"ORDERS_{action.dest.upper()}"
            text = environment.get(name)
            if text and action.dest != "help":
                try:
                    self.set_defaults(**{action.dest: convert(action, text)})
                except (argparse.ArgumentTypeError, ValueError) as error:
                    self.error(f"environment variable {name}: {error}")


def convert(action: argparse.Action, text: str) -> Any:
    """Return the text of an environment variable as the value of an option. Raises ValueError."""
    if isinstance(action, argparse.BooleanOptionalAction):
        if text.lower() not in BOOLEANS:
            raise ValueError(f"{text!r} is none of {', '.join(BOOLEANS)}")
        return BOOLEANS[text.lower()]
    if action.choices is not None and text not in action.choices:
        raise ValueError(f"{text!r} is none of {', '.join(action.choices)}")
    return action.type(text) if callable(action.type) else text


def host(text: str) -> str:
    """Parse an address. The empty one would silently mean every address of the machine."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`."""

    def parse_number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = high + 1
        if not low <= value <= high:
            kind_of_number = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {kind_of_number} from {low} to {high}")
        return value

    return parse_number


def database_url(text: str) -> DatabaseURL:
    """Parse a database URL for argparse, which shows the message of this type of error alone."""
    try:
        return DatabaseURL.parse(text)
    except DatabaseURLError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
