"""The command `orders`: options and environment variables in, an exit code out.

0   stopped by SIGTERM or SIGINT
1   cannot start: the port is taken, the database cannot be used, the contract is broken, …
2   bad options or environment variables
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NoReturn

from orders import __version__
from orders.http.cors import check_origin
from orders.server.log import LEVELS
from orders.server.serve import CannotStart, run
from orders.settings import Settings
from orders.storage.database import DatabaseURL, DatabaseURLError

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
    parser = Parser(
        prog="orders", allow_abbrev=False, description="The reference implementation of the orders service API."
    )
    parser.add_argument("--version", action="version", version=f"orders {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="run the server",
        usage="orders serve [OPTIONS]",
        description="Options are variables too: --port ORDERS_PORT, --controls ORDERS_CONTROLS=1.",
        formatter_class=OneScreen,
        allow_abbrev=False,
        add_help=False,
    )
    add_options(serve)
    serve.set_defaults(**serve.variables(environment))
    options = serve.converted(vars(parser.parse_args(argv)))
    exposed = options.pop("expose_controls")
    settings = Settings(cors_origins=tuple(options.pop("cors_origin")), **options)
    if settings.database.in_memory and settings.workers > 1:
        serve.error("--workers above 1 needs a database file: each process would have a :memory: database of its own")
    if settings.controls and settings.workers > 1:
        serve.error("--controls needs --workers 1: each process would have faults and a journal of its own")
    if settings.controls and not exposed and not is_loopback(settings.host):
        serve.error(
            f"--controls lets whoever reaches {settings.host} delete all orders, and that is not loopback;"
            " --expose-controls allows it"
        )
    return settings


def add_options(serve: argparse.ArgumentParser) -> None:
    """Add the options of `orders serve`; their help fits a screen of 24 lines."""
    listening = serve.add_argument_group("listening")
    listening.add_argument("--host", type=host, default="127.0.0.1", help="the address to listen on [%(default)s]")
    listening.add_argument(
        "--port", type=number(int, 0, 65535), default=8080, help="the port; 0 takes a free one [%(default)s]"
    )
    listening.add_argument(
        "--idle-timeout",
        type=number(float, 0.1, 86400),
        metavar="SECONDS",
        default=30.0,
        help="how long a request may take to arrive [%(default)s]",
    )
    listening.add_argument(
        "--cors-origin",
        type=origin,
        action=Several,
        metavar="ORIGIN",
        default=(),
        help="let its web pages in; repeatable; * lets in all",
    )
    storing = serve.add_argument_group("storing")
    storing.add_argument(
        "--database",
        type=database_url,
        metavar="URL",
        default="sqlite:///orders.db",
        help="sqlite:///... or postgresql://... [%(default)s]",
    )
    storing.add_argument(
        "--database-connections",
        type=number(int, 2, 1000),
        metavar="N",
        default=2,
        help="to PostgreSQL, per process: 1 writes [%(default)s]",
    )
    storing.add_argument(
        "--workers", type=number(int, 1, 1024), metavar="N", default=1, help="how many processes serve [%(default)s]"
    )
    logging = serve.add_argument_group("logging")
    logging.add_argument(
        "--access-log", action=argparse.BooleanOptionalAction, default=True, help="leave out the line a request"
    )
    logging.add_argument(
        "--log-level",
        type=str.lower,
        choices=LEVELS,
        metavar="LEVEL",
        default="info",
        help="debug, info, warning or error [%(default)s]",
    )
    testing = serve.add_argument_group("testing clients")
    testing.add_argument(
        "--controls",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="faults on demand, reset, journal: see /docs",
    )
    testing.add_argument(
        "--expose-controls",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="allow that on more than loopback",
    )
    testing.add_argument("-h", "--help", action="help", help="show this help")


class OneScreen(argparse.HelpFormatter):
    """Help with a line an option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=80)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            # The one of the two that changes something.
            return action.option_strings[1 if action.default is True else 0]
        return super()._format_action_invocation(action)


class Several(argparse.Action):
    """Collects the values of an option that is given several times, in place of its default."""

    def __call__(self, parser: object, namespace: argparse.Namespace, value: Any, option: object = None) -> None:
        """Add a value."""
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*given, value] if isinstance(given, list) else [value])


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line and takes defaults from the environment."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and one line."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def variables(self, environment: Mapping[str, str]) -> dict[str, "Variable"]:
        """Return ORDERS_X, if it is set and not empty, as the value of each option --x."""
        names = {action.dest: f"ORDERS_{action.dest.upper()}" for action in self._actions if action.dest != "help"}
        return {dest: Variable(name, environment[name]) for dest, name in names.items() if environment.get(name)}

    def converted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the options, those that are still variables converted as the options are."""
        values = dict(given)
        for action in self._actions:
            variable = values.get(action.dest)
            if isinstance(variable, Variable):
                try:
                    values[action.dest] = variable.value_for(action)
                except (argparse.ArgumentTypeError, ValueError) as error:
                    self.error(f"environment variable {variable.name}: {error}")
        return values


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that stands for an option, unless the command line has it."""

    name: str
    text: str

    def __str__(self) -> str:
        # For the help, which should not show a password.
        return f"${self.name}"

    def value_for(self, action: argparse.Action) -> Any:
        """Return the text as the value of an option. Raises ValueError or ArgumentTypeError."""
        if isinstance(action, argparse.BooleanOptionalAction):
            if self.text.lower() not in BOOLEANS:
                raise ValueError(f"{self.text!r} is none of {', '.join(BOOLEANS)}")
            return BOOLEANS[self.text.lower()]
        if isinstance(action, Several):
            assert callable(action.type)
            return [action.type(text) for text in self.text.replace(",", " ").split()]
        value = action.type(self.text) if callable(action.type) else self.text
        if action.choices is not None and value not in action.choices:
            raise ValueError(f"{self.text!r} is none of {', '.join(action.choices)}")
        return value


def host(text: str) -> str:
    """Parse an address. The empty one would silently mean every address of the machine."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def origin(text: str) -> str:
    """Parse an origin for argparse, which shows the message of this type of error alone."""
    try:
        return check_origin(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def is_loopback(host: str) -> bool:
    """Return whether a host is known, and only this machine can reach it."""
    try:
        addresses = [address[4][0] for address in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return False
    return all(ip_address(address).is_loopback for address in addresses)


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
