"""Cleans up after a process, however that process ends: stops what it started and deletes its files.

The guard is a separate process that reads from a pipe. The guarded process writes to the pipe what must be cleaned up.
When the pipe closes, the guard cleans up. The kernel closes the pipe even after SIGKILL. The guard imports little, so
it starts fast.
"""

import atexit
import glob
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO

GROUP, MARKED, POSTMASTER, MOUNT, DIRECTORY = "group", "marked", "postmaster", "mount", "directory"

END_TIMEOUT_S = 5.0

_pipes: dict[int, IO[str]] = {}


def guard(kind: str, name: str | int | os.PathLike[str]) -> None:
    """Clean something up when this process ends.

    `kind` says what `name` is:

    - `GROUP`: the id of a process group;
    - `MARKED`: `VARIABLE=value`, which stands for all processes with this variable in their environment. If it is set
      before they are started, there is no moment at which this process can end and leave one of them behind;
    - `POSTMASTER`: the id of PostgreSQL's first process;
    - `MOUNT`, `DIRECTORY`: a path.
    """
    _tell(f"+ {kind} {name}")


def release(kind: str, name: str | int | os.PathLike[str]) -> None:
    """Tell the guard that this process has already cleaned something up."""
    _tell(f"- {kind} {name}")


def _tell(line: str) -> None:
    # A forked process gets its own guard.
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
    """Close the pipe, and wait until the guard has cleaned up."""
    assert process.stdin and process.stdout
    process.stdin.close()
    process.stdout.read()
    process.stdout.close()


def _clean_up(kind: str, name: str) -> None:
    """Clean one thing up. It may be gone already."""
    if kind == GROUP:
        _signal_group(int(name), signal.SIGKILL)
    elif kind == MARKED:
        _kill_marked(name)
    elif kind == POSTMASTER:
        # An immediate shutdown (SIGQUIT) frees the shared memory; SIGKILL does not. SIGCONT wakes a stopped server.
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


def _kill_marked(variable: str) -> None:
    """Kill the processes that have a variable in their environment. Linux has environments in /proc."""
    deadline = time.monotonic() + END_TIMEOUT_S
    scans_without = 0
    # A process that is just being started shows its environment a moment later. So one scan is not enough.
    while scans_without < 3 and time.monotonic() < deadline:
        scans_without += 1
        for process in glob.iglob("/proc/[0-9]*"):
            with suppress(OSError), open(f"{process}/environ", "rb") as file:
                if variable.encode() in file.read().split(b"\0"):
                    os.kill(int(os.path.basename(process)), signal.SIGKILL)
                    scans_without = 0
        time.sleep(0.05)


def _signal_group(group: int, signal_number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal_number)


def main() -> None:
    """Run the guard: read what to clean up until the pipe closes, then clean up."""
    # The guard must not stay a child of the guarded process: some processes kill their children when they end.
    if os.fork():
        os._exit(0)
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    entries: dict[str, None] = {}
    for line in sys.stdin:
        change, entry = line.rstrip("\n").split(" ", 1)
        if change == "+":
            entries[entry] = None
        else:
            entries.pop(entry, None)
    # A later entry may depend on an earlier one, for example a mount on its directory.
    for entry in reversed(entries):
        _clean_up(*entry.split(" ", 1))


if __name__ == "__main__":
    main()
