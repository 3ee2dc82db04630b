"""A plugin for pytest that loads the contract suite once and runs it many times, each time in a fork of its process.

Each line of standard input asks for a run. It is a JSON object with a folder, for the reports and the output, and with
the suite's other options. When the run has ended, a line on standard output has its exit code.
"""

import gc
import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from contract_tests import conftest
from contract_tests.suite.run import Run

ENDED = "exit code "


def output_in(folder: Path) -> Path:
    """Return the file in a folder that has the output of a run."""
    return folder / "output.txt"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Begin each run that is asked for. Its fork goes on as if its options had been on the command line."""
    # The garbage collector of each fork skips what is loaded already.
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            begin(session, **json.loads(line))
            return (yield)
        _, status = os.waitpid(pid, 0)
        print(f"{ENDED}{os.waitstatus_to_exitcode(status)}", flush=True)
    os._exit(0)


def begin(session: pytest.Session, folder: str, options: dict[str, Any]) -> None:
    """Begin a run: print to a file, read the options, and leave out the tests that are not selected."""
    Path(folder).mkdir(exist_ok=True)
    output = os.open(output_in(Path(folder)), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    vars(session.config.option).update(options, report_dir=Path(folder))
    conftest.pytest_configure(session.config)
    session.config.hook.pytest_collection_modifyitems(session=session, config=session.config, items=session.items)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Stop when a selected clause has failed, because its verdict can no longer change."""
    if Run.current.selected & Run.current.failures.keys():
        item.session.shouldfail = "a selected clause has failed"
