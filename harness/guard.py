"""Ends the processes that a process has started, and deletes its files, however that process ends.

The guard is a process of its own at the other end of a pipe. The process that it guards tells it what to
clear away. The guard clears it away when the pipe closes. The kernel closes the pipe even after SIGKILL. The guard
imports little, so it starts fast.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO

GROUP, POSTMASTER, MOUNT, DIRECTORY = "group", "postmaster", "mount", "directory"

END_TIMEOUT_S = 5.0

_pipes: dict[int, IO[str]] = {}


def guard(kind: str, name: str | int | os.PathLike[str]) -> None:
    """Clear something away when this process ends.

    `name` is the id of a process `GROUP` or of PostgreSQL's `POSTMASTER`, or the path of a `MOUNT` or `DIRECTORY`.
    """
    _tell(f"+ {kind} {name}")


def release(kind: str, name: str | int | os.PathLike[str]) -> None:
    """Tell the guard that this process has cleared something away itself."""
    _tell(f"- {kind} {name}")


def _tell(line: str) -> None:
    # A process that is forked from this one gets a guard of its own.
    pipe = _pipes.get(os.getpid())
    if pipe is None:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        process.wait()
        assert process.stdin
        pipe = _pipes[os.getpid()] = process.stdin
        atexit.register(_end, process)
    pipe.write(f"{line}\n")
    pipe.flush()


def _end(process: "subprocess.Popen[str]") -> None:
    """Close the pipe, and wait until the guard has cleared everything away."""
    assert process.stdin and process.stdout
    process.stdin.close()
    process.stdout.read()
    process.stdout.close()


def _clear(kind: str, name: str) -> None:
    """Clear one thing away. It may be gone already."""
    if kind == GROUP:
        _signal_group(int(name), signal.SIGKILL)
    elif kind == POSTMASTER:
        # An immediate shutdown (SIGQUIT) frees the shared memory, SIGKILL does not. SIGCONT wakes a stopped server.
        _signal_group(int(name), signal.SIGQUIT)
        _signal_group(int(name), signal.SIGCONT)
        deadline = time.monotonic() + END_TIMEOUT_S
        while os.path.exists(f"/proc/{name}") and time.monotonic() < deadline:
            time.sleep(0.02)
        _signal_group(int(name), signal.SIGKILL)
    elif kind == MOUNT:
        subprocess.run(["umount", "--lazy", name], stderr=subprocess.DEVNULL)
    else:
        shutil.rmtree(name, ignore_errors=True)


def _signal_group(group: int, signal_number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal_number)


def main() -> None:
    """Run the guard: read what to clear away until the pipe closes, then clear it away."""
    # No child of the process that it guards, or one that kills its children at its end would kill the guard too.
    if os.fork():
        os._exit(0)
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    left: dict[str, None] = {}
    for line in sys.stdin:
        change, what = line.rstrip("\n").split(" ", 1)
        if change == "+":
            left[what] = None
        else:
            left.pop(what, None)
    # Later things may depend on earlier ones, for example a mount on its directory.
    for what in reversed(left):
        kind, name = what.split(" ", 1)
        _clear(kind, name)


if __name__ == "__main__":
    main()
