"""The suite's options: the same ones for the command `orders-contract` and for pytest."""

import argparse
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from contract_tests.clauses import CLAUSES, Level
from contract_tests.suite import server
from contract_tests.suite.run import BUDGETS, Run
from contract_tests.suite.transport import Target


def add_options(add: Callable[..., object]) -> None:
    """Add each option with `add`: the `add_argument` of a parser, or what pytest has in place of it."""
    add(
        "--base-url",
        metavar="URL",
        help=f"URL of the server to check (or ORDERS_BASE_URL; default: start and check `{server.COMMAND}`)",
    )
    add("--seed", type=int, metavar="N", help="repeat the random choices of the run with this seed")
    add(
        "--budget",
        choices=list(BUDGETS),
        default="quick",
        help="brief: about 10 s; quick: about 30 s; thorough: about 5 min (default: quick)",
    )
    add(
        "--level",
        choices=[level.lower() for level in Level],
        default="should",
        help="clauses that bind less are checked and reported, but do not fail the run (default: should)",
    )
    add(
        "--clause",
        action="append",
        default=[],
        metavar="ID",
        help="check only this clause, for example ASSIGN-6; may be given several times (default: all)",
    )
    add("--answer-timeout", type=float, default=10.0, metavar="S", help="seconds to wait for an answer (default: 10)")
    add(
        "--report-dir",
        type=Path,
        default=Path("contract-report"),
        metavar="DIR",
        help="folder for report.html, report.json and report.xml (JUnit) (default: contract-report)",
    )
    # An option of pytest-xdist. The suite refuses it with a reason, whether or not xdist is installed.
    add("-n", "--numprocesses", help=argparse.SUPPRESS)


def base_url(options: argparse.Namespace) -> str | None:
    """Return the URL of the server to check, or None if the suite starts the reference implementation.

    An empty variable counts as not set. An empty option is wrong: a job that has lost its URL must not check, and pass,
    the reference implementation.
    """
    if options.base_url is not None:
        return str(options.base_url)
    return os.environ.get("ORDERS_BASE_URL") or None


def make_report_dir(folder: Path) -> None:
    """Make the folder for the reports. Raises ValueError if it cannot have files, before a run has taken its time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"--report-dir {folder}: cannot write there: {error.strerror}") from None


def new_run(options: argparse.Namespace) -> Run:
    """Return a run with these options. Raises ValueError, which names the option that is wrong."""
    if options.numprocesses:
        raise ValueError("-n: the suite runs in one process, because the order of its requests matters")
    if not 0 < options.answer_timeout <= 600:
        raise ValueError("--answer-timeout: must be more than 0 and at most 600 seconds")
    for clause in options.clause:
        if clause not in CLAUSES:
            raise ValueError(f"--clause {clause}: no such clause; `orders-contract --clauses` lists all clauses")
    url = base_url(options)
    try:
        # The address of a server that the suite starts is not known yet.
        target = Target("http://127.0.0.1:0" if url is None else url, options.answer_timeout)
    except ValueError as error:
        raise ValueError(f"{url!r} is not the URL of a server: {error}") from None
    return Run(
        target,
        BUDGETS[options.budget],
        Level(options.level.upper()),
        random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed,
        frozenset(options.clause),
    )
