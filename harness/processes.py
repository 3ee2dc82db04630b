"""Runs commands in process groups of their own, so that no process is left behind, however the run ends."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.guard import GROUP, guard, release


def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    """Start a command in a process group of its own. Its output goes to pipes. `options` are those of `Popen`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **(pipes | options))
    guard(GROUP, process.pid)
    return process


def run(command: Sequence[str | Path], *, timeout_s: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; return its exit code and its output. Raises TimeoutExpired.

    No process of its group is left afterwards.
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


def without_orders_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment`, and this process's variables except those that set options of `orders serve`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORDERS")}
    return inherited | dict(environment)


def path_with(directory: Path) -> str:
    """Return PATH with a directory in front, so that its programs replace others of the same name."""
    return f"{directory}{os.pathsep}{os.environ['PATH']}"
