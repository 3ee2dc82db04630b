"""The log: one line per request, which input cannot forge, which holds nobody up and outlives a full disk."""

import logging
import os
import re
import resource
import select
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from harness.client import Client
from harness.processes import children, end_group, start
from harness.server import ServerProcess, wait_until
from orders.server.log import MAX_WAITING_RECORDS, LogHandler, LogWriter, printable
from orders.testing import ReferenceServer

MISSING = re.compile(r"\S{20} WARNING orders: (\d+) log lines are missing\n")


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """The path of a file for a log."""
    return tmp_path / "log"


def test_a_request_is_a_line(database: Path) -> None:
    """The access log has method, target, status, milliseconds and client."""
    with ServerProcess(database=database) as server, Client(server.url) as client:
        client.assign("order", "executor")
        client.http.get("/nothing")
        server.stop()
        log = server.log()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ %s \d+\.\d\dms 127\.0\.0\.1\n"
    assign = re.escape("PUT /orders/assign?order_id=order&executor_id=executor&zone_id=zone 200")
    assert re.fullmatch(pattern % assign + pattern % re.escape("GET /nothing 404"), log), log


def test_the_access_log_can_be_turned_off(database: Path) -> None:
    """`--no-access-log`, and a level above info, leave requests out of the log."""
    for options in (["--no-access-log"], ["--log-level", "warning"]):
        with ServerProcess(*options, database=database) as server, Client(server.url) as client:
            client.acquire("executor")
            server.stop()
            assert server.log() == ""


def test_input_cannot_forge_a_line(server: ServerProcess) -> None:
    """A request with anything in its target is one line of printable ASCII, and not an endless one."""
    with server.connect() as connection:
        target = b"/forged\x85\x9b31m\xe2\x80\xa8" + b"%0A%1B" + b"x" * 5000
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while connection.recv(1000):
            pass
    with Client(server.url) as client:
        client.http.get("/after-the-forged-one")
    wait_until(lambda: "/after-the-forged-one" in server.log(), "the request is in the log")
    (line,) = [line for line in server.log().splitlines() if "/forged" in line]
    assert line.isascii() and line.isprintable() and len(line) < 1200, line
    assert r"/forged\x85\x9b31m\xe2\x80\xa8%0A%1Bxxx" in line


def test_a_long_target_is_cut(server: ServerProcess) -> None:
    """A target of any length is cut, so that the line still says how the request was answered."""
    with Client(server.url) as client:
        client.http.get("/long" + "x" * 60000)
    pattern = r" GET /longx{900,1000}\.\.\. 404 \d+\.\d\dms 127\.0\.0\.1$"
    wait_until(lambda: re.search(pattern, server.log(), re.M) is not None, "the request is in the log, cut")


def test_messages_and_tracebacks_cannot_forge_a_line(log_file: Path) -> None:
    """Every line of a record but the first is indented, none has control characters, and a pipe takes each whole."""
    try:
        raise ValueError("first\n2026-01-01T00:00:00Z GET /forged 200\x1b[31m\r\x00" + "x" * 60000)
    except ValueError:
        record = logging.LogRecord("orders", logging.ERROR, "", 0, "broken: %s", ("a\nb",), sys.exc_info())
    with open(log_file, "wb") as file:
        LogHandler(LogWriter(file.fileno())).handle(record)
    first, *rest = log_file.read_text().splitlines()
    assert first.endswith("Z ERROR orders: broken: a")
    assert len(rest) > 3
    for line in rest:
        assert line.startswith("    ") and line.isprintable() and len(line) < select.PIPE_BUF, repr(line)


def is_replaced(parent: int, worker: int, workers: int) -> bool:
    """Return whether a worker is gone and there are as many as before."""
    now = children(parent)
    return worker not in now and len(now) == workers


def test_printable_leaves_ascii_alone() -> None:
    """Printable ASCII is as it was; all else is escaped."""
    assert printable("GET /a?b=c%20 ~") == "GET /a?b=c%20 ~"
    assert printable("a\tb\x7fé\u2028😀") == r"a\tb\x7f\xe9\u2028\U0001f600"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_log_that_nobody_reads_keeps_nobody_waiting(database: Path, workers: str) -> None:
    """With standard error a pipe that is full, requests are served and the server can be stopped."""
    reader, writer = os.pipe()
    options = ["--port", "0", "--workers", workers, "--database", f"sqlite:///{database}"]
    process = start([sys.executable, "-m", "orders", "serve", *options], stderr=writer)
    os.close(writer)
    assert process.stdout
    try:
        url = process.stdout.readline().split()[-1]
        target = "/nothing?" + "x" * 900
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            for _ in range(300):
                assert client.get(target).status_code == 404
            for worker in children(process.pid):
                os.kill(worker, signal.SIGKILL)
                wait_until(lambda: is_replaced(process.pid, worker, int(workers)), "the worker is replaced")  # noqa: B023
            process.terminate()
            assert process.wait(60) == 0
    finally:
        end_group(process.pid)
        process.wait()
        process.stdout.close()
        os.close(reader)


def test_a_log_that_is_closed_is_nowhere_else(database: Path) -> None:
    """Without standard error, the log is lost: it never lands in a connection or a file that got its number."""
    with (
        ServerProcess(database=database, wrapper=["sh", "-c", 'exec "$0" "$@" 2>&-']) as server,
        Client(server.url) as client,
    ):
        for _ in range(3):
            assert client.acquire("executor").json() == {"message": "There are no orders assigned to you"}
        with server.connect() as connection:
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1000)
        assert server.stop() == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_lines_that_wait_too_long_are_counted_and_the_others_whole(blocking: bool) -> None:
    """Once a full pipe is read again, what waited comes out whole and in order, and the log says what is missing."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    log = LogWriter(writer)
    log.start()
    sent = 3 * MAX_WAITING_RECORDS
    for n in range(sent):
        log.log(f"line {n:06} {'x' * 50}")
    whole: list[str] = []
    missing = 0
    with open(reader) as stream:
        while len(whole) + missing < sent:
            line = stream.readline()
            if note := MISSING.fullmatch(line):
                missing += int(note[1])
            else:
                whole.append(line.partition(" ")[2])
    log.stop()
    os.close(writer)
    assert missing > 0 and len(whole) + missing == sent
    assert all(re.fullmatch(r"line \d{6} x{50}\n", line) for line in whole)
    assert whole == sorted(whole)


def test_without_its_thread_the_log_waits_for_nobody() -> None:
    """Before `start`, lines that a full pipe does not take are counted. `stop` gives up on a pipe that stays full."""
    reader, writer = os.pipe()
    log = LogWriter(writer)
    for _ in range(100):
        log.log("x" * 4000)
    log.start()
    log.log("queued")
    log.stop()
    with open(reader) as stream:
        whole = 0
        while not (note := MISSING.fullmatch(line := stream.readline())):
            assert line.endswith("x\n"), line
            whole += 1
        assert int(note[1]) + whole == 100
        assert stream.readline().endswith("Z queued\n")
    os.close(writer)


def test_a_stop_writes_what_waits_and_ends_the_thread() -> None:
    """A stop that is asked for while lines wait behind a slow one is carried out after the last of them."""
    reader, writer = os.pipe()
    os.write(writer, bytes(65536))
    log = LogWriter(writer)
    others = set(threading.enumerate())
    log.start()
    (thread,) = set(threading.enumerate()) - others
    log.log("slow")
    wait_until(log.queue.empty, "the thread has taken the first line")
    log.log("waits")
    log.enqueue_sentinel()
    os.read(reader, 65536)
    with open(reader) as stream:
        assert [stream.readline().split()[-1] for _ in range(2)] == ["slow", "waits"]
    wait_until(lambda: not thread.is_alive(), "the thread has ended")
    os.close(writer)


def test_a_stop_says_how_many_lines_are_missing(log_file: Path) -> None:
    """The number of missing lines is in the log when the server has stopped, even if it logged nothing since."""
    full = os.open("/dev/full", os.O_WRONLY)
    log = LogWriter(full)
    log.log("lost")
    with open(log_file, "wb") as file:
        os.dup2(file.fileno(), full)
    log.start()
    log.stop()
    os.close(full)
    assert log_file.read_text().endswith("Z WARNING orders: 1 log lines are missing\n")


@pytest.mark.parametrize("on_a_thread", [True, False])
def test_the_log_goes_on_after_a_full_disk(log_file: Path, on_a_thread: bool) -> None:
    """Lines that a full disk does not take are counted. Once there is room, the log says how many are missing."""
    full = os.open("/dev/full", os.O_WRONLY)
    log = LogWriter(full)
    if on_a_thread:
        log.start()
    for n in range(5):
        log.log(f"lost {n}\nwith a second line")
    if on_a_thread:
        wait_until(log.queue.empty, "the thread has taken the lines")
        log.stop()
        log.start()
    with open(log_file, "wb") as file:
        os.dup2(file.fileno(), full)
    log.log("found")
    if on_a_thread:
        log.stop()
    os.close(full)
    note, line = log_file.read_text().splitlines(keepends=True)
    assert note.endswith("Z WARNING orders: 10 log lines are missing\n"), note
    assert line.endswith("Z found\n"), line


def test_a_server_whose_log_is_full_logs_again_when_there_is_room(log_file: Path) -> None:
    """The file may end within a line: the next line begins on a line of its own, and every request is accounted for."""
    command = ["sh", "-c", f'exec "$0" "$@" 2>{shlex.quote(str(log_file))}']
    with (
        ServerProcess("--database", "sqlite:///:memory:", wrapper=command) as server,
        Client(server.url) as client,
    ):
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1000, limits[1]))
        for _ in range(50):
            assert client.http.get("/nothing").status_code == 404
        wait_until(lambda: log_file.stat().st_size == 1000, "the log is full")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
        assert client.http.get("/nothing").status_code == 404
        assert server.stop() == 0
    log = log_file.read_text()
    lines = log.splitlines(keepends=True)
    missing = sum(int(note[1]) for line in lines if (note := MISSING.fullmatch(line)))
    whole = sum(re.fullmatch(r"\S{20} GET /nothing 404 \S+ms 127\.0\.0\.1\n", line) is not None for line in lines)
    assert missing > 0 and missing + whole == 51, log
    assert log.endswith("127.0.0.1\n"), log


def test_processes_do_not_write_into_each_others_lines() -> None:
    """Lines of any length from several writers come whole out of a pipe that is read slowly, and none is missing."""
    reader, writer = os.pipe()
    logs = [LogWriter(writer), LogWriter(writer)]
    for log, letter in zip(logs, "ab", strict=True):
        log.start()
        for length in range(1, 5000, 100):
            log.log("\n".join([letter * length] * 3))
    # The small buffer leaves the pipe nearly full, so that the writers take turns.
    with open(reader, "rb", buffering=500) as stream:
        lines = [stream.readline().decode() for _ in range(2 * 50 * 3)]
    for log in logs:
        log.stop()
    os.close(writer)
    mixed = [line for line in lines if not re.fullmatch(r"(\S{20}|   ) (a+|b+)(\.\.\.)?\n", line)]
    assert not mixed, mixed[0]


def test_a_writer_waits_again_when_another_process_was_faster(log_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pipe that does not block, the room that a writer has waited for may be gone. No line is missing then."""
    refusals = [BlockingIOError()]

    def write(file: int, data: bytes) -> int:
        if refusals:
            raise refusals.pop()
        return os.write(file, data)

    monkeypatch.setattr("orders.server.log.os", SimpleNamespace(write=write))
    with open(log_file, "wb") as file:
        LogWriter(file.fileno()).log("late")
    assert re.fullmatch(r"\S{20} late\n", log_file.read_text()), log_file.read_text()


def test_a_server_inside_another_program_leaves_its_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The in-process server changes no logging of its program, and adds no line per request to its log."""
    caplog.set_level(logging.DEBUG)
    before = (logging.root.level, list(logging.root.handlers), logging.getLogger("orders").handlers)
    with ReferenceServer() as server:
        assert httpx.get(f"{server.url}/nothing", trust_env=False).status_code == 404
    assert (logging.root.level, logging.root.handlers, logging.getLogger("orders").handlers) == before
    assert not [record for record in caplog.records if record.name.startswith("orders")]
