"""The harness leaves nothing behind, and skips no test in CI."""

import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from harness import guard
from harness.postgresql import PostgreSQL
from harness.processes import start
from harness.programs import require_program
from harness.server import wait_until

GUARD = guard.__file__
RUN = """if True:
    import time
    from harness.postgresql import PostgreSQL
    from harness.server import ServerProcess

    postgresql = PostgreSQL()
    server = ServerProcess("--workers", "2", database=postgresql.url)
    print(server.process.pid, postgresql.pid, postgresql.directory, postgresql.programs.parents[2], flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_run_that_started_it(signal_number: signal.Signals) -> None:
    """When a signal ends a run, its servers end too, and the files of its PostgreSQL are deleted."""
    process = start([sys.executable, "-c", RUN])
    assert process.stdout and process.stderr
    started = process.stdout.readline().split()
    assert len(started) == 4, process.stderr.read()
    *pids, data, programs = started
    paths = [*(Path("/proc", pid) for pid in pids), Path(data)]
    if os.geteuid() == 0:
        # A copy, because the user who runs PostgreSQL for root cannot enter the original's directory.
        paths.append(Path(programs))
    assert [path for path in paths if not path.exists()] == []
    # `process_iter` leaves out processes that end meanwhile, as those of PostgreSQL do.
    guards = [each.pid for each in psutil.process_iter(["cmdline"]) if GUARD in (each.info["cmdline"] or ())]
    children = psutil.Process(process.pid).children(recursive=True)
    assert not {child.pid for child in children} & {*guards}, "the guard is a child of the run"
    os.kill(process.pid, signal_number)
    process.communicate(timeout=60)
    wait_until(lambda: not any(path.exists() for path in paths), f"{paths} are gone")


def test_a_closed_postgresql_leaves_no_shared_memory() -> None:
    """A PostgreSQL that is closed frees its shared memory, which would otherwise stay until the machine restarts."""
    with PostgreSQL() as postgresql:
        maps = Path(f"/proc/{postgresql.pid}/maps").read_text()
        segments = [Path(name) for name in set(re.findall(r"/dev/shm/\S+", maps))]
        assert segments and str(postgresql.pid) in creators()
    assert [segment for segment in segments if segment.exists()] == []
    assert str(postgresql.pid) not in creators()


def creators() -> list[str]:
    """Return the ids of the processes that created System V shared memory."""
    return [line.split()[4] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]


RUN_MARKED = """if True:
    import os, subprocess, sys, time
    from harness.guard import MARKED, guard

    guard(MARKED, "MARK_OF_TEST=1 2")
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    for mark in ("1 2", "1"):
        environment = {**os.environ, "MARK_OF_TEST": mark}
        print(subprocess.Popen(command, env=environment, start_new_session=True).pid, flush=True)
    time.sleep(60)
"""


def test_marked_processes_end_with_the_run_that_started_them() -> None:
    """When a run is killed, the processes with its mark in their environment end too, and no others."""
    run = start([sys.executable, "-c", RUN_MARKED])
    assert run.stdout
    marked, other = (psutil.Process(int(run.stdout.readline())) for _ in range(2))
    try:
        os.kill(run.pid, signal.SIGKILL)
        wait_until(lambda: not marked.is_running() or marked.status() == psutil.STATUS_ZOMBIE, "it has ended")
        assert other.is_running()
    finally:
        other.kill()
        run.communicate(timeout=60)


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_program_skips_a_test_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, outcome: type[BaseException]
) -> None:
    """If a program is missing, the test is skipped, or fails in CI; the reason says how to install the program."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="wrk is not installed; on Debian and Ubuntu: apt-get install wrk"):
        require_program("wrk")
