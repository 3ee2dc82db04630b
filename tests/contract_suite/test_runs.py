"""Runs of the suite: output, reports and exit codes, mostly when the server or the options are wrong."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import jsonschema
import pytest

from contract_tests import conftest
from contract_tests.clauses import CLAUSES, Level
from contract_tests.suite import contract, report
from contract_tests.suite.calls import request_to
from contract_tests.suite.contract import ACQUIRE
from contract_tests.suite.evidence import shorten, shorten_all
from contract_tests.suite.run import BUDGETS, ExitCode, Failure, Run
from contract_tests.suite.transport import Connection, DroppedConnection, Request, Response, Step, Target, explain
from harness.programs import require_program
from tests.contract_suite.runner import LoadedSuite, run_suite
from tests.faulty.faults import FAULTS
from tests.faulty.implementation import Server

SUITE = Path(conftest.__file__).parent
SHORT = ("--clause", "ASSIGN-3")


def faulty(name: str) -> Server:
    """Return the server with a fault."""
    return next(fault for fault in FAULTS if fault.name == name).server()


def address_of(server: Server) -> tuple[str, int]:
    """Return the host and port of a server."""
    parts = urlsplit(server.url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accept connections, and call `answer` with each in a thread of its own; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def handle(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Closing alone would not wake accept().
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def send_garbage(connection: socket.socket) -> None:
    """Answer with bytes of no protocol."""
    connection.recv(1000)
    connection.sendall(bytes(range(256)) * 8)


def send_page(connection: socket.socket) -> None:
    """Answer as a web server that knows nothing about orders."""
    connection.recv(1000)
    connection.sendall(
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>Not found</h1>"
    )


def refuse(connection: socket.socket) -> None:
    """Answer as another service with an API in JSON, or as the orders service at another path."""
    connection.recv(1000)
    connection.sendall(
        b'HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"message": "Not found"}'
    )


def hang(connection: socket.socket) -> None:
    """Never answer."""
    while connection.recv(1000):
        pass


def dribble(connection: socket.socket) -> None:
    """Send an answer that never ends, a byte now and then."""
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    for _ in range(100):
        connection.sendall(b" ")
        threading.Event().wait(0.2)


def send_too_little(connection: socket.socket) -> None:
    """Announce more bytes than follow, and wait."""
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{}")
    hang(connection)


def break_off(connection: socket.socket) -> None:
    """Close the connection in place of the last chunk."""
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")


@pytest.mark.parametrize(
    ("answer", "answer_timeout", "words"),
    [
        (send_garbage, 60, "is not HTTP"),
        (send_page, 60, "is not the orders service"),
        (refuse, 60, "is not the orders service"),
        (hang, 1, "no answer in time"),
        (dribble, 1, "no answer in time: the body did not end"),
        (send_too_little, 1, "the body has fewer bytes than its Content-Length, 3"),
        (break_off, 60, "the connection was closed within the body"),
        (socket.socket.close, 60, "closed without an answer"),
    ],
)
def test_a_server_that_is_not_the_service_is_an_error(
    answer: Callable[[socket.socket], None], answer_timeout: float, words: str, suite: LoadedSuite, tmp_path: Path
) -> None:
    """If a server sends garbage, is another service or is silent, one line says so, and the exit code is 3."""
    with listening(answer) as url:
        result = suite.run(tmp_path, url, answer_timeout=answer_timeout)
    check_error(result.output, words)
    assert result.exit_code == 3 and set(result.verdicts().values()) == {"not checked"}


def check_error(output: str, words: str) -> None:
    """Check that an output has exactly one error line, with these words, and no traceback."""
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and words in lines[0], output
    assert "Traceback" not in output and "Error: " not in output, output


def test_an_unreachable_server_is_an_error(suite: LoadedSuite, tmp_path: Path) -> None:
    """If nothing listens at the URL, one line says so, and the exit code is 3."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = suite.run(tmp_path, f"http://127.0.0.1:{port}")
    check_error(result.output, "the connection was refused")
    assert result.exit_code == 3
    result = suite.run(tmp_path, "http://no-such-host.invalid")
    check_error(result.output, "no service at")
    assert result.exit_code == 3


@contextlib.contextmanager
def relay(passes: Callable[[bytes], bool]) -> Iterator[str]:
    """Relay the bytes of each client to a correct server, as long as they may pass, and back; yield the URL."""
    with Server() as server:

        def forward(connection: socket.socket) -> None:
            with socket.create_connection(address_of(server)) as onward:
                back = threading.Thread(target=pump, args=(onward, connection, lambda data: True))
                back.start()
                pump(connection, onward, passes)
                back.join(10)

        with listening(forward) as url:
            yield url


def pump(source: socket.socket, sink: socket.socket, passes: Callable[[bytes], bool]) -> None:
    """Move bytes from one connection to another, until one is closed or bytes may not pass."""
    with contextlib.suppress(OSError):
        while (data := source.recv(65536)) and passes(data):
            sink.sendall(data)
    for connection in (source, sink):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("requests", "clauses"),
    [
        (40, []),
        (400, []),
        (4000, []),
        # Here Hypothesis has seen a history go on where the server dies now, and raises an error of its own.
        (300, ["LIFE-6"]),
    ],
)
def test_a_server_that_dies_half_way_is_an_error(
    requests: int, clauses: list[str], suite: LoadedSuite, tmp_path: Path
) -> None:
    """If the server stops answering, the run ends with an error, and no clause fails because of it."""
    left = threading.Semaphore(requests)
    with relay(lambda _: left.acquire(blocking=False)) as url:
        result = suite.run(tmp_path, url, *clauses, answer_timeout=60, budget="brief")
    check_error(result.output, "the server")
    assert result.exit_code == 3 and not result.failed(), result.output


def test_a_server_that_hangs_half_way_is_an_error(suite: LoadedSuite, tmp_path: Path) -> None:
    """If the server accepts requests and answers none any more, the run soon ends with an error."""
    left = threading.Semaphore(300)
    released = threading.Event()
    with relay(lambda _: left.acquire(blocking=False) or not released.wait(300)) as url:
        result = suite.run(tmp_path, url, answer_timeout=1)
        released.set()
    check_error(result.output, "the server")
    assert result.exit_code == 3 and not result.failed(), result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--base-url", "127.0.0.1:8080"], "does not start with http:// or https://"),
        (["--budget", "huge"], "invalid choice"),
        (["--clause", "ASSIGN-99"], "no such clause"),
        (["--answer-timeout", "0"], "--answer-timeout"),
        # Failures would be recorded in other processes than the verdicts.
        (["-n", "2"], "one process"),
    ],
)
def test_a_wrong_option_is_reported(options: list[str], words: str, tmp_path: Path) -> None:
    """With a wrong option, no run begins. A line names the option, and the exit code is 4."""
    result = run_suite(tmp_path, *options)
    assert result.exit_code == 4 and words in result.output and "Traceback" not in result.output, result.output


def test_nothing_selected_is_told_apart(tmp_path: Path) -> None:
    """If no test is selected, the exit code is 5."""
    with Server() as server:
        result = run_suite(tmp_path, "--base-url", server.url, "-k", "no_such_test")
    assert result.exit_code == 5, result.output


def test_the_url_may_come_from_the_environment(tmp_path: Path) -> None:
    """ORDERS_BASE_URL does what --base-url does, in any folder, and the run prints its seed."""
    with Server() as server:
        environment = {"ORDERS_BASE_URL": server.url}
        result = run_suite(tmp_path / "report", *SHORT, environment=environment, cwd=tmp_path, suite=str(SUITE))
    assert result.exit_code == 0 and result.report["url"] == server.url, result.output
    assert f"--seed {result.report['seed']}" in result.output


def test_the_options_win(tmp_path: Path) -> None:
    """--base-url wins over ORDERS_BASE_URL, and --seed sets the seed."""
    with Server() as server:
        options = ("--base-url", server.url, "--seed", "7")
        result = run_suite(tmp_path, *SHORT, *options, environment={"ORDERS_BASE_URL": "http://127.0.0.1:1"})
    assert result.exit_code == 0 and result.report["seed"] == 7, result.output


def test_without_a_url_it_starts_the_reference_implementation(tmp_path: Path) -> None:
    """Without a URL, the suite starts a server on a port and a database of its own."""
    result = run_suite(tmp_path, *SHORT, environment={"ORDERS_PORT": "1", "ORDERS_DATABASE": "nonsense"})
    assert result.exit_code == 0, result.output
    assert "python -m orders serve" in result.output


def test_level_must_reports_should_without_failing(suite: LoadedSuite, tmp_path: Path) -> None:
    """At --level must, a failed SHOULD clause is shown, and does not fail the run."""
    with faulty("without-cache-control") as server:
        should = suite.run(tmp_path / "should", server.url, "ACQUIRE-8")
        must = suite.run(tmp_path / "must", server.url, "ACQUIRE-8", level="must")
    assert should.exit_code == 1 and should.failed() == ["ACQUIRE-8"], should.output
    assert must.exit_code == 0 and must.failed() == ["ACQUIRE-8"], must.output
    assert "does not fail the run" in must.output


def test_level_must_is_not_stopped_by_a_should(suite: LoadedSuite, tmp_path: Path) -> None:
    """A failed SHOULD clause that ends a test early does not leave the clauses of level MUST without a verdict."""
    with faulty("times-with-offset") as server:
        result = suite.run(tmp_path, server.url, level="must", keyword="test_acquire or test_assign")
    assert result.exit_code == 0 and "ACQUIRE-7" in result.failed(), result.output


def test_a_must_that_cannot_be_checked_is_no_verdict() -> None:
    """At --level must, a MUST whose checks all rely on a failed SHOULD leaves the run without a verdict."""
    run = Run(Target("http://127.0.0.1:1"), BUDGETS["brief"], Level.MUST, seed=0, requests=1)
    step = Step(Request("GET", "/"), Response(200, (), b""))
    run.record(Failure("CANCEL-4", "", (step,), "test_1", ""))
    run.record(Failure("LIFE-2", "", (step,), "test_2", "", relies=frozenset({"CANCEL-4"})))
    assert run.exit_code() == ExitCode.ERROR and run.exit_code(Level.SHOULD) == ExitCode.FAILED
    assert "no verdict, because LIFE-2 could not be checked" in report.conclusion(run)
    run.passed.add("LIFE-2")
    assert run.exit_code() == ExitCode.CONFORMS
    assert run.reason(CLAUSES["LIFE-2"]) == "in part: the rest needs CANCEL-4"


def test_evidence_of_a_missing_answer_is_shortened() -> None:
    """Of the requests before one without an answer, those that do not matter are left out."""
    closed = "the connection was closed without an answer"
    before, last = (Step(request_to(ACQUIRE, f"executor_id={number}"), None, closed) for number in range(2))
    with listening(socket.socket.close) as url:
        run = Run(Target(url), BUDGETS["brief"], Level.MUST, seed=0)
        shorter = shorten(run, Failure("ERROR-2", "", (before, last), "test", ""), end=time.monotonic() + 10)
    assert shorter is not None and [step.request for step in shorter.steps] == [last.request], shorter


def answer_once(connection: socket.socket) -> None:
    """Answer a request, keep the connection open, and close it at the next request."""
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    connection.recv(1000)


def test_a_connection_that_is_dropped_is_told_apart() -> None:
    """If a server closes a connection that it had kept open, the reason says so."""
    with listening(answer_once) as url:
        connection = Connection(Target(url))
        connection.send(request_to(ACQUIRE))
        with pytest.raises(DroppedConnection) as raised:
            connection.send(request_to(ACQUIRE))
    assert "kept open" in explain(raised.value)


def test_a_failure_that_does_not_show_again_says_so() -> None:
    """What came back once, but not when the suite sent the requests again, is marked."""
    step = Step(request_to(ACQUIRE, "executor_id=x"), None, "the answer is not HTTP")
    with listening(send_page) as url:
        run = Run(Target(url), BUDGETS["brief"], Level.MUST, seed=0)
        run.record(Failure("ERROR-2", "", (step,), "test", "nothing"))
        shorten_all(run)
    assert run.failures["ERROR-2"][0].got == "once, but not when the requests were sent again: nothing"


def test_a_must_clause_decides_at_both_levels(suite: LoadedSuite, tmp_path: Path) -> None:
    """At --level must, a failed MUST clause fails the run."""
    with faulty("created-misspelled") as server:
        result = suite.run(tmp_path, server.url, "ASSIGN-1", level="must")
    assert result.exit_code == 1, result.output


def test_the_reports_tell_what_to_mend(suite: LoadedSuite, tmp_path: Path) -> None:
    """Each report has the clause, what was expected, what came back, and commands that show it."""
    with faulty("acquire-missing-misspelled") as server:
        result = suite.run(tmp_path, server.url, "ACQUIRE-2")
        clause = next(clause for clause in result.report["clauses"] if clause["id"] == "ACQUIRE-2")
        exchange = clause["failures"][0]["exchanges"][-1]
        require_program("curl")
        repeated = subprocess.run(["sh", "-c", exchange["curl"]], capture_output=True, text=True, timeout=20)
    jsonschema.validate(result.report, json.loads((SUITE / "report.schema.json").read_text("utf-8")))
    page = (tmp_path / "report.html").read_text("utf-8")
    junit = ElementTree.parse(tmp_path / "report.xml")
    wanted, got = '400 {"message": "Missing parameters, please provide executor_id"}', "please provide executorId"
    for shown in (result.output, str(clause), page, ElementTree.tostring(junit.getroot(), "unicode")):
        text = unescape(shown)
        assert wanted in text and got in text and "curl" in text and "ACQUIRE-2" in text, text
    assert got in repeated.stdout, repeated
    assert exchange["status"] == 400
    cases = junit.getroot()[0]
    assert (cases.get("tests"), cases.get("failures"), cases.get("errors")) == (str(len(CLAUSES)), "1", "0")
    assert not re.search(r"(src|href)=[\"'](?!#)", page) and "@import" not in page, "the page needs another file"


def test_control_characters_do_not_break_the_reports(suite: LoadedSuite, tmp_path: Path) -> None:
    """The reports stay well-formed, whatever a server sends."""
    with faulty("nul-is-accepted") as server:
        result = suite.run(tmp_path, server.url, "PARAM-5")
    assert "PARAM-5" in result.failed()
    assert "<script" not in (tmp_path / "report.html").read_text("utf-8")
    ElementTree.parse(tmp_path / "report.xml")


def test_the_document_has_the_last_word(tmp_path: Path) -> None:
    """With another message in `openapi.yaml`, a server with the old message fails."""
    shutil.copytree(SUITE, tmp_path / SUITE.name)
    changed = contract.PATH.read_text("utf-8").replace("Successfully canceled", "Successfully cancelled")
    (tmp_path / SUITE.name / "openapi.yaml").write_text(changed, "utf-8")
    with Server() as server:
        result = run_suite(tmp_path / "report", "--base-url", server.url, "--clause", "CANCEL-1", cwd=tmp_path)
    assert result.exit_code == 1 and result.failed() == ["CANCEL-1"], result.output
    assert 'expected: 200 {"message": "Successfully cancelled"}' in result.output, result.output


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """If the reports cannot be written in the end, the run says so, and the exit code is 3."""
    (tmp_path / "report.html").mkdir()
    with Server() as server:
        result = run_suite(tmp_path, *SHORT, "--base-url", server.url)
    assert result.exit_code == 3 and "error: no reports in" in result.output, result.output
