"""The command `orders`: options and environment variables in, an exit code out.

0   stopped by SIGTERM or SIGINT
1   cannot start: the port is taken, the database cannot be used, the contract is broken, …
2   bad options or environment variables
"""

import math
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import click
from click.core import ParameterSource

from orders import __version__
from orders.http.cors import check_origin
from orders.server.log import LEVELS, STDERR
from orders.server.serve import CannotStart, run
from orders.settings import Settings
from orders.storage.database import DatabaseURL

USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s]\S*@")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of this process. Return the exit code."""
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: sys.exit(0))
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Otherwise the next file or socket would get the closed stream's number, and the log would go to it.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        cli.main(argv, prog_name="orders", standalone_mode=False)
    except click.ClickException as error:
        with suppress(OSError):
            # Not `print`: Python would write the rest of its buffer when it exits, and fail again.
            os.write(STDERR, f"orders: {describe(error)}\n".encode())
        return error.exit_code
    return 0


def describe(error: click.ClickException) -> str:
    """Return the message of an error, without passwords. For a bad value, the message names the option or variable."""
    if isinstance(error, click.BadParameter) and error.ctx and error.param:
        name = error.param.name
        if error.ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
            error.param_hint = f"environment variable ORDERS_{name.upper()}"
    hint = " See `orders --help`." if isinstance(error, click.UsageError) and error.ctx and not error.ctx.parent else ""
    return USER_AND_PASSWORD.sub("***@", error.format_message()) + hint


class Parsed(click.types.StringParamType):
    """The type of an option that a function parses. The message of its ValueError says what is wrong.

    With a function as the type, the message is lost before click 8.4.
    """

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the function makes of the value, or fail with its message."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the values in the environment variable of an option that may be repeated."""
        return rv.replace(",", " ").split()


def number(kind: type[int] | type[float], low: float, high: float) -> Parsed:
    """Return the type of an option for numbers from `low` to `high`.

    Its errors always say the range. Those of `click.IntRange` may not, and `click.FloatRange` lets NaN through.
    """

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number from {low} to {high}")
        return value

    return Parsed(parse)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host. Return False for an unknown host."""
    try:
        addresses = [address[4][0] for address in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return False
    return all(ip_address(address).is_loopback for address in addresses)


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """The reference implementation of the orders service API."""


@cli.command(context_settings={"auto_envvar_prefix": "ORDERS", "show_default": True})
@click.option("--host", metavar="HOST", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", metavar="PORT", type=number(int, 0, 65535), default=8080, help="Port; 0 for a free one.")
@click.option(
    "--idle-timeout", metavar="SECONDS", type=number(float, 0.1, 86400), default=30, help="Longest wait for a request."
)
@click.option(
    "--cors-origin", type=Parsed(check_origin), multiple=True, help="Origin of pages to allow, or *; repeatable."
)
@click.option(
    "--database",
    metavar="URL",
    type=Parsed(DatabaseURL.parse),
    default="sqlite:///orders.db",
    help="sqlite:///PATH or postgresql://HOST/NAME",
)
@click.option(
    "--database-connections", metavar="N", type=number(int, 2, 1000), default=2, help="To PostgreSQL, per worker."
)
@click.option("--workers", metavar="N", type=number(int, 1, 1024), default=1, help="Number of processes.")
@click.option("--access-log/--no-access-log", default=True, help="One line per request.")
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="info", help="How much to log.")
@click.option(
    "--controls/--no-controls", default=False, show_default=False, help="Test controls: faults, journal. See /docs."
)
@click.option(
    "--expose-controls/--no-expose-controls",
    default=False,
    show_default=False,
    help="Allow the controls beyond loopback.",
)
@click.pass_context
def serve(ctx: click.Context, /, *, cors_origin: tuple[str, ...], **options: Any) -> None:
    """Run the server.

    Each option is also an environment variable: --port 80 is ORDERS_PORT=80, --no-access-log is ORDERS_ACCESS_LOG=0.
    """
    settings = Settings(cors_origins=cors_origin, **options)
    if not settings.host:
        ctx.fail("--host is empty, which would mean every address of this machine")
    if settings.workers > 1 and settings.database.in_memory:
        ctx.fail("--workers above 1 needs a database file: each process would have a :memory: database of its own")
    if settings.workers > 1 and settings.controls:
        ctx.fail("--controls needs --workers 1: each process would have faults and a journal of its own")
    if settings.expose_controls and not settings.controls:
        ctx.fail("--expose-controls needs --controls: without it there is nothing to expose")
    if settings.controls and not settings.expose_controls and not is_loopback(settings.host):
        ctx.fail(
            f"--controls lets whoever reaches {settings.host} delete all orders, and that is not loopback."
            " To allow it, add --expose-controls"
        )
    try:
        run(settings)
    except CannotStart as error:
        raise click.ClickException(str(error)) from error
