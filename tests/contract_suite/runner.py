"""Runs the contract suite: as its users do, or many times in a process that has loaded it once."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.processes import end_group, run, start
from tests.contract_suite import forked

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 400
# So that chance does not decide whether a test passes.
SEED = 1


@dataclass(frozen=True)
class Result:
    """A run that has ended: its exit code, its output, and the folder of its reports."""

    exit_code: int
    output: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        """The report in JSON. Raises OSError if the run wrote none."""
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text("utf-8"))
        return report

    def verdicts(self) -> dict[str, str]:
        """Return the verdict on each clause."""
        return {clause["id"]: clause["verdict"] for clause in self.report["clauses"]}

    def failed(self) -> list[str]:
        """Return the clauses that failed."""
        return [clause for clause, verdict in self.verdicts().items() if verdict == "fail"]


def run_suite(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    suite: str = "contract_tests",
) -> Result:
    """Run the suite with options, in a process of its own. Its reports go to a folder."""
    ended = run(
        [sys.executable, "-m", "pytest", suite, "--report-dir", str(folder), *options],
        timeout_s=TIMEOUT_S,
        cwd=cwd,
        env={**inherited(), **(environment or {})},
        stderr=subprocess.STDOUT,
    )
    return Result(ended.returncode, ended.stdout, folder)


def inherited() -> dict[str, str]:
    """Return the environment without the variables that the suite or pytest would read."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ORDERS_", "PYTEST_"))}


class LoadedSuite:
    """A process that has loaded the suite. Each run is a fork of it, and begins at once."""

    def __init__(self) -> None:
        """Start the process. It loads the suite while this process goes on."""
        self._process = start(
            [sys.executable, "-m", "pytest", "contract_tests", "-p", forked.__name__, "--capture", "no"],
            cwd=ROOT,
            env=inherited(),
            stdin=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, folder: Path, url: str, *clauses: str, **options: object) -> Result:
        """Check the server at a URL; return the result. Without `clauses`, all are checked.

        `options` are the suite's other options. The default of `seed` is SEED. The reports go to a folder. The run ends
        when one of the clauses has failed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        options = {"seed": SEED, **options, "base_url": url, "clause": clauses}
        print(json.dumps({"folder": str(folder), "options": options}), file=self._process.stdin, flush=True)
        printed = []
        try:
            for line in self._process.stdout:
                if line.startswith(forked.ENDED):
                    output = forked.output_in(folder).read_text("utf-8")
                    return Result(int(line.removeprefix(forked.ENDED)), output, folder)
                printed.append(line)
        except BaseException:
            # The process may still answer this request when it is sent the next one.
            self.close()
            raise
        raise AssertionError(f"the suite cannot be loaded: {''.join(printed)}")

    def close(self) -> None:
        """End the process."""
        end_group(self._process.pid)
        self._process.communicate()
