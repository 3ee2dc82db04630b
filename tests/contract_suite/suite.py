"""Running the contract suite as its users do, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 400


@dataclass(frozen=True)
class Result:
    """A run that has ended: its exit code, what it printed, and its report if it wrote one."""

    exit_code: int
    output: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        """The report in JSON."""
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
    """Run the suite with options; its reports go to a folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERS_", "PYTEST_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", suite, "--report-dir", str(folder), *options],
        cwd=cwd,
        env={**inherited, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    return Result(ended.returncode, ended.stdout, folder)
