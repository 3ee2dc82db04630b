"""The log: a line a request, which input cannot forge and which keeps nobody waiting."""

import logging
import os
import re
import signal
import sys
from pathlib import Path

import httpx
import pytest

from harness.client import Client
from harness.processes import children, end_group, start
from harness.server import ServerProcess, wait_until
from orders.server.log import MAX_WAITING_LINES, AccessLog, LineHandler, LineWriter, printable


def test_a_request_is_a_line(database: Path) -> None:
    """The access log has method, target, status, milliseconds and client."""
    with ServerProcess(database=database) as service, Client(service.url) as client:
        client.assign("order", "executor")
        client.http.get("/nothing")
        service.stop()
        log = service.log()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ %s \d+\.\d\dms 127\.0\.0\.1\n"
    assign = re.escape("PUT /orders/assign?order_id=order&executor_id=executor&zone_id=zone 200")
    assert re.fullmatch(pattern % assign + pattern % re.escape("GET /nothing 404"), log), log


def test_the_access_log_can_be_turned_off(database: Path) -> None:
    """`--no-access-log`, and a level above info, leave requests out of the log."""
    for options in (["--no-access-log"], ["--log-level", "warning"]):
        with ServerProcess(*options, database=database) as service, Client(service.url) as client:
            client.acquire("executor")
            service.stop()
            assert service.log() == ""


def test_input_cannot_forge_a_line(service: ServerProcess) -> None:
    """A request with anything in its target is one line of printable ASCII, and not an endless one."""
    with service.connect() as connection:
        target = b"/forged\x85\x9b31m\xe2\x80\xa8" + b"%0A%1B" + b"x" * 5000
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while connection.recv(1000):
            pass
    with Client(service.url) as client:
        client.http.get("/after-the-forged-one")
    wait_until(lambda: "/after-the-forged-one" in service.log(), "the request is in the log")
    (line,) = [line for line in service.log().splitlines() if "/forged" in line]
    assert line.isascii() and line.isprintable() and len(line) < 1200, line
    assert r"/forged\x85\x9b31m\xe2\x80\xa8%0A%1Bxxx" in line


def test_messages_and_tracebacks_cannot_forge_a_line() -> None:
    """Every line of a record but the first is indented, and none has control characters."""
    lines: list[str] = []
    handler = LineHandler(lines.append)
    try:
        raise ValueError("first\n2026-01-01T00:00:00Z GET /forged 200\x1b[31m\r\x00")
    except ValueError:
        record = logging.LogRecord("orders", logging.ERROR, "", 0, "broken: %s", ("a\nb",), sys.exc_info())
    handler.handle(record)
    first, *rest = lines[0].split("\n")
    assert first.endswith("ERROR orders: broken: a")
    assert len(rest) > 3
    for line in rest:
        assert line.startswith("    ") and line.isprintable(), repr(line)


def is_replaced(parent: int, worker: int, workers: int) -> bool:
    """Return whether a worker is gone and there are as many as before."""
    now = children(parent)
    return worker not in now and len(now) == workers


def test_printable_leaves_ascii_alone() -> None:
    """Printable ASCII is as it was; all else is escaped."""
    assert printable("GET /a?b=c%20 ~") == "GET /a?b=c%20 ~"
    assert printable("a\tb\x7fé\u2028😀") == r"a\tb\x7f\xe9\u2028\U0001f600"


def test_a_long_target_is_cut() -> None:
    """A target of any length makes a line of bounded length."""
    lines: list[str] = []
    AccessLog(lines.append)("GET", "/" + "x" * 60000, 404, 0.0012, "127.0.0.1")
    assert lines[0].endswith("xxx... 404 1.20ms 127.0.0.1")
    assert len(lines[0]) < 1200


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
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            for _ in range(300):
                assert client.get(target).status_code == 404
            for worker in children(process.pid):
                os.kill(worker, signal.SIGKILL)
                wait_until(lambda: is_replaced(process.pid, worker, int(workers)), "the worker is replaced")  # noqa: B023
            process.terminate()
            assert process.wait(20) == 0
    finally:
        end_group(process.pid)
        process.wait()
        process.stdout.close()
        os.close(reader)


def test_a_log_that_is_closed_is_nowhere_else(database: Path) -> None:
    """Without standard error, the log is lost: it never lands in a connection or a file that got its number."""
    with (
        ServerProcess(database=database, wrapper=["sh", "-c", 'exec "$0" "$@" 2>&-']) as service,
        Client(service.url) as client,
    ):
        for _ in range(3):
            assert client.acquire("executor").json() == {"message": "There are no orders assigned to you"}
        with service.connect() as connection:
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1000)
        assert service.stop() == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_lines_that_wait_too_long_are_counted_and_the_others_whole(blocking: bool) -> None:
    """Once a full pipe is read again, what waited comes out whole and in order, and the log says what is missing."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    log = LineWriter(writer)
    sent = 3 * MAX_WAITING_LINES
    for n in range(sent):
        log.write(f"line {n:06} {'x' * 50}")
    whole: list[str] = []
    dropped = 0
    with open(reader) as stream:
        while len(whole) + dropped < sent:
            line = stream.readline()
            if line.endswith("log lines were dropped\n"):
                dropped += int(line.split()[-5])
            else:
                whole.append(line)
    log.close()
    os.close(writer)
    assert dropped > 0 and len(whole) + dropped == sent
    assert all(re.fullmatch(r"line \d{6} x{50}\n", line) for line in whole)
    assert whole == sorted(whole)
