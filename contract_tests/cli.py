"""The command `orders-contract`: runs the suite from any directory, whatever that directory or the environment has.

It prints what the suite has to say, and of pytest only the progress. The exit codes are those of the suite.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from contract_tests.clauses import table
from contract_tests.options import add_options, make_report_dir, new_run
from contract_tests.suite.run import ExitCode

SUITE = Path(__file__).parent
# The modules of the extra `contract`. Whoever installs the package without it has the command, but not these.
EXTRA = ("hypothesis", "pytest", "requests", "schemathesis")
EXIT_CODES = """\
exit codes:
  0  each clause that was checked held    3  no verdict: no server, another service, or a fault of the suite
  1  a clause failed                      4  an option is wrong
  2  the run was interrupted              5  no test was selected

Options after -- go to pytest, for example: orders-contract URL -- -x
"""


class Parser(argparse.ArgumentParser):
    """A parser that reports a wrong option in one line, with the suite's exit code."""

    def error(self, message: str) -> NoReturn:
        """Print the message, and exit."""
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of this process. Return the exit code."""
    parser = Parser(
        prog="orders-contract",
        usage="%(prog)s [options] [URL]",
        description="Check whether a server keeps the contract of the orders service.",
        epilog=EXIT_CODES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=20, width=110),
        allow_abbrev=False,
    )
    parser.add_argument("url", nargs="?", metavar="URL", help="the same as --base-url URL")
    parser.add_argument("--clauses", action="store_true", help="print the table of all clauses, and exit")
    add_options(parser.add_argument)
    arguments, pytest_arguments = _split(sys.argv[1:] if argv is None else list(argv))
    options = parser.parse_args(arguments)
    if options.clauses:
        print(table())
        return ExitCode.CONFORMS
    if options.url is not None:
        if options.base_url is not None:
            parser.error("--base-url: the URL is given already")
        options.base_url = options.url
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        parser.exit(
            ExitCode.ERROR,
            f"{parser.prog}: {', '.join(missing)}: not installed; install orders-service[contract]\n",
        )
    try:
        new_run(options)
        make_report_dir(options.report_dir)
    except ValueError as error:
        parser.error(str(error))
    del options.url, options.clauses
    return _run([*_as_arguments(options), *pytest_arguments])


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before and after `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def _as_arguments(options: argparse.Namespace) -> Iterator[str]:
    """Yield options as arguments of pytest."""
    for name, value in vars(options).items():
        for single in value if isinstance(value, list) else [value]:
            if single is not None:
                yield f"--{name.replace('_', '-')}={single}"


def _run(arguments: list[str]) -> int:
    """Run the suite with arguments for pytest; return the exit code."""
    import hypothesis.configuration
    import pytest

    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        # Otherwise Hypothesis keeps its tables in the current directory.
        hypothesis.configuration.set_hypothesis_home_dir(folder)
        return int(
            pytest.main(
                [
                    str(SUITE),
                    # No settings, conftest.py or plugins but the suite's own and Schemathesis's.
                    f"--config-file={SUITE / 'pytest.ini'}",
                    f"--rootdir={SUITE}",
                    f"--confcutdir={SUITE}",
                    "--disable-plugin-autoload",
                    "-p",
                    "schemathesis.pytest.plugin",
                    "-qq",
                    "--disable-warnings",
                    *arguments,
                ]
            )
        )
