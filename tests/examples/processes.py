"""Commands in process groups of their own, so that what they leave behind is seen and ended."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def start(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a command whose output is read later, in a process group of its own.

    Of the variables that are inherited, those that would set options of `orders serve` are left out.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORDERS")}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=inherited | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def path_with(directory: Path) -> str:
    """Return PATH with a directory in front, whose programs take the place of others."""
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def end_group(group: int) -> bool:
    """End the processes of a group; return whether there were any."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
