"""Runs commands, each in its own process group, and leaves no process behind."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.guard import GROUP, guard, release


def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    """Start a command in its own process group. Its output goes to pipes. `options` are those of `Popen`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **(pipes | options))
    guard(GROUP, process.pid)
    return process


def run(command: Sequence[str | Path], *, timeout_s: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; return its exit code and its output.

    Afterwards, no process of its group is left. Raises TimeoutExpired.
    """
    with start(command, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        finally:
            end_group(process.pid)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end_group(group: int) -> bool:
    """Kill the processes of a group; return whether there were any."""
    release(GROUP, group)
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment plus `variables`, as a user of the project would have it.

    It lacks the variables of virtual environments, of test runs, and of `orders serve`.
    """
    excluded = ("COV", "ORDERS", "PYTEST", "PYTHON", "VIRTUAL")
    return {name: value for name, value in os.environ.items() if not name.startswith(excluded)} | variables


def path_with(directory: Path) -> str:
    """Return PATH with a directory in front: its programs replace others of the same name."""
    return f"{directory}{os.pathsep}{os.environ['PATH']}"
