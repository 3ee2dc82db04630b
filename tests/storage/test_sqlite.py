"""SQLite files: opening them, and the sets of writes: what is written when, and what a failure spoils."""

import asyncio
import fcntl
import multiprocessing
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from harness.server import execute, wait_until
from orders.lifecycle import Orders
from orders.storage.database import DatabaseURL, prepare
from orders.storage.models import SCHEMA_VERSION, CannotOpenDatabase
from orders.storage.queries import Rows, Statement
from orders.storage.sqlite import Session


def open_file(database: Path) -> Orders:
    """Prepare and open a database file, as the server does."""
    url = DatabaseURL("sqlite", str(database))
    prepare(url)
    return Orders(url)


def writer_of(orders: Orders) -> Session:
    """Return what the writing thread works with."""
    (session,) = orders._writes._sessions
    assert isinstance(session, Session)
    return session


async def outcome_or_none(call: "asyncio.Task[bool]", timeout_s: float) -> bool | None:
    """Return what a call comes to within some time."""
    await asyncio.wait([call], timeout=timeout_s)
    return call.result() if call.done() else None


def test_a_new_database_is_ours_and_durable(database: Path) -> None:
    """A new file is in WAL mode, says whose it is and of what version; connections sync each commit (D13)."""

    async def scenario() -> None:
        orders = open_file(database)
        file = writer_of(orders)._database
        assert file.synchronous == 2, "FULL"
        assert file.journal_mode == "wal"
        assert file.pragma("user_version") == SCHEMA_VERSION
        await orders.close()

    asyncio.run(scenario())


def test_preparing_twice_changes_nothing(database: Path) -> None:
    """An existing database is used as it is."""
    prepare(DatabaseURL("sqlite", str(database)))
    before = database.read_bytes()
    prepare(DatabaseURL("sqlite", str(database)))
    assert database.read_bytes() == before


def prepare_together(databases: list[Path], meeting: Barrier, complain: Connection) -> None:
    """Prepare some databases, each at the same moment as the other processes; tell what is wrong."""
    complaints = []
    for path in databases:
        meeting.wait(30)
        try:
            prepare(DatabaseURL("sqlite", str(path)))
        except CannotOpenDatabase as error:
            complaints.append(str(error))
    complain.send(complaints)


def test_many_processes_may_create_the_database_at_once(tmp_path: Path) -> None:
    """Of several that start together on a new file, all come up."""
    databases = [tmp_path / f"{number}.db" for number in range(100)]
    context = multiprocessing.get_context("fork")
    meeting = context.Barrier(8)
    complaints, complain = context.Pipe(duplex=False)
    processes = [
        context.Process(target=prepare_together, args=(databases, meeting, complain)) for _ in range(meeting.parties)
    ]
    for process in processes:
        process.start()
    outcomes = [complaints.recv() if complaints.poll(60) else "no answer" for _ in processes]
    for process in processes:
        process.join(30)
        process.close()
    complaints.close()
    complain.close()
    assert outcomes == [[]] * len(processes)


def test_a_process_that_never_gets_on_does_not_hold_up_the_others(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another process does not end its preparations, a server says so, and leaves nothing behind."""
    monkeypatch.setattr("orders.storage.sqlite.PREPARE_TIMEOUT_S", 0.1)
    other = os.open(database.parent, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(CannotOpenDatabase) as raised:
        prepare(DatabaseURL("sqlite", str(database)))
    os.close(other)
    assert str(raised.value) == (
        f"cannot open database {database}: another process has been preparing a database beside it for 0.1 s"
    )
    assert not list(database.parent.iterdir())
    prepare(DatabaseURL("sqlite", str(database)))


def make_other_program(path: Path) -> None:
    """Make a database of another program, with a table of our name."""
    execute(path, "CREATE TABLE assigned_order (something TEXT)")


def make_other_program_that_has_crashed(path: Path) -> None:
    """Make a database of another program that has left its WAL behind, which whoever opens the file clears away."""
    original = path.with_name("original")
    make_other_program(original)
    with closing(sqlite3.connect(original, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("INSERT INTO assigned_order VALUES ('valuable')")
        for suffix in ("", "-wal"):
            shutil.copy(f"{original}{suffix}", f"{path}{suffix}")


def make_newer_release(path: Path) -> None:
    """Make a database of a later release."""
    prepare(DatabaseURL("sqlite", str(path)))
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def make_without_an_index(path: Path) -> None:
    """Make one of our databases, and take an index away."""
    prepare(DatabaseURL("sqlite", str(path)))
    execute(path, "DROP INDEX assigned_order_active_executor")


def make_with_another_column(path: Path) -> None:
    """Make one of our databases, and rename a column."""
    prepare(DatabaseURL("sqlite", str(path)))
    execute(path, "ALTER TABLE assigned_order RENAME COLUMN zone_id TO zone")


def make_a_directory_of_its_lock(path: Path) -> None:
    """Make one of our databases, which each worker fails to open."""
    prepare(DatabaseURL("sqlite", str(path)))
    Path(f"{path}-lock").mkdir()


def make_fifo(path: Path) -> None:
    """Make something that is neither a file nor a directory."""
    os.mkfifo(path)


def make_text(path: Path) -> None:
    """Make a file that is no database."""
    path.write_text("These are not orders.\n" * 100)


def make_directory(path: Path) -> None:
    """Make a directory."""
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (make_other_program, "belongs to another program"),
        (make_other_program_that_has_crashed, "belongs to another program"),
        (make_newer_release, f"has schema version {SCHEMA_VERSION + 1}"),
        (make_text, "file is not a database"),
        (make_directory, "it is a directory"),
        (make_fifo, "it is not a file"),
        (make_without_an_index, "it lacks the index assigned_order_active_executor"),
        (make_with_another_column, "it lacks the column zone_id"),
    ],
)
def test_what_is_not_our_database_is_left_alone(database: Path, make: object, complaint: str) -> None:
    """A foreign, newer or broken file is refused, not changed, and nothing is put beside it."""
    assert callable(make)
    make(database)
    before = {path: path.read_bytes() for path in database.parent.iterdir() if path.is_file()}
    with pytest.raises(CannotOpenDatabase, match=complaint):
        prepare(DatabaseURL("sqlite", str(database)))
    assert {path: path.read_bytes() for path in database.parent.iterdir() if path.is_file()} == before


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A path into nowhere is refused."""
    with pytest.raises(CannotOpenDatabase, match="there is no directory"):
        prepare(DatabaseURL("sqlite", str(tmp_path / "no" / "orders.db")))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that every user of the machine can reach."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


def prepare_as_nobody(path: Path, complaints: Connection) -> None:
    """Prepare a database without root's privilege to write everywhere; tell what is wrong."""
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        prepare(DatabaseURL("sqlite", str(path)))
    except CannotOpenDatabase as error:
        complaints.send(str(error))


@pytest.mark.parametrize("read_only", ["file", "directory"])
def test_a_database_that_is_read_only_is_refused(public_directory: Path, read_only: str) -> None:
    """A file or directory that cannot be written to is named at the start, not at the first write."""
    database = public_directory / "orders.db"
    prepare(DatabaseURL("sqlite", str(database)))
    database.chmod(0o444 if read_only == "file" else 0o666)
    public_directory.chmod(0o555 if read_only == "directory" else 0o777)
    context = multiprocessing.get_context("fork")
    complaints, complain = context.Pipe(duplex=False)
    process = context.Process(target=prepare_as_nobody, args=(database, complain))
    process.start()
    process.join(20)
    public_directory.chmod(0o777)
    assert complaints.poll(), "the database was accepted"
    refused = database if read_only == "file" else public_directory
    assert complaints.recv() == f"cannot open database {database}: {refused} cannot be read and written"
    complaints.close()
    complain.close()
    process.close()


def test_the_answer_comes_after_the_commit(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the commit cannot happen, there is no answer (D13)."""

    async def scenario() -> None:
        orders = open_file(database)
        may_commit = threading.Event()
        session = writer_of(orders)
        trip = session.trip

        def commit_when_allowed(*statements: Statement | None) -> list[Rows]:
            assert session.queries.commit not in statements or may_commit.wait(20)
            return trip(*statements)

        monkeypatch.setattr(session, "trip", commit_when_allowed)
        call = asyncio.create_task(orders.assign("order", "executor", "zone"))
        assert await outcome_or_none(call, 0.3) is None, "answered before the commit"
        assert await orders.acquire("executor") is None, "visible before the commit"
        may_commit.set()
        assert await outcome_or_none(call, 20) is True
        await orders.close()

    asyncio.run(scenario())


class Obedient:
    """A process that is told what to do, a line at a time, and answers with lines."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.pid = process.pid

    def __call__(self, order: str = "", *, answer: bool = True) -> str:
        """Tell the process something, if there is something to tell; return the next line that it answers."""
        assert self._process.stdin and self._process.stdout
        if order:
            self._process.stdin.write(f"{order}\n")
            self._process.stdin.flush()
        return self._process.stdout.readline().strip() if answer else ""


@contextmanager
def another_process_to_tell(code: str, *arguments: str) -> Iterator[Obedient]:
    """Run code in a process that is told what to do, until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            obedient = Obedient(process)
            assert obedient() == "ready"
            yield obedient
        finally:
            process.kill()


def waits_for_a_lock(pid: int) -> bool:
    """Return whether a process waits for a file lock that somebody else has."""
    return any("->" in line and line.split()[5] == str(pid) for line in Path("/proc/locks").read_text().splitlines())


@contextmanager
def another_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run code in a process that prints a line when it is ready, until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout and process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_a_process_that_keeps_the_lock_does_not_stop_the_service(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that cannot have its turn fails in the end, polls go on; the next write that can, succeeds."""
    keep = """if True:
        import sys, time
        from orders.storage.sqlite import Lock
        with Lock(sys.argv[1]):
            print("ready", flush=True)
            time.sleep(60)
    """

    async def scenario() -> None:
        orders = open_file(database)
        with another_process(keep, str(database)):
            with monkeypatch.context() as impatient, pytest.raises(TimeoutError):
                impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 0.3)
                await orders.assign("order", "executor", "zone")
            assert await orders.acquire("executor") is None
        assert await orders.assign("order", "executor", "zone") is True
        await orders.close()

    asyncio.run(scenario())


def test_a_busy_process_does_not_keep_others_from_their_turn(tmp_path: Path) -> None:
    """Whoever waits comes next, however soon the process that has just written wants to write again."""
    obey = """if True:
        import sys
        from orders.storage.sqlite import Lock
        lock = Lock(sys.argv[1])
        print("ready", flush=True)
        for line in sys.stdin:
            print("wants", flush=True)
            with lock:
                print("has", flush=True)
                sys.stdin.readline()
    """
    path = str(tmp_path / "orders.db")
    with another_process_to_tell(obey, path) as one, another_process_to_tell(obey, path) as other:
        assert one("go") == "wants" and one() == "has"
        assert other("go") == "wants"
        for _ in range(5):
            wait_until(partial(waits_for_a_lock, other.pid), "the other process waits for its turn")
            # Who has just had a turn wants another at once.
            one("end\ngo", answer=False)
            assert other() == "has", "who waited did not come next"
            assert one() == "wants"
            one, other = other, one


def test_another_program_that_writes_is_waited_for(database: Path) -> None:
    """A program that knows nothing of turns, the SQLite shell say, delays a write and keeps no read waiting."""

    async def scenario() -> None:
        orders = open_file(database)
        with closing(sqlite3.connect(database, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            call = asyncio.create_task(orders.assign("order", "executor", "zone"))
            assert await outcome_or_none(call, 0.2) is None, "written beside another program's transaction"
            assert await orders.acquire("executor") is None
            shell.execute("COMMIT")
            assert await outcome_or_none(call, 20) is True
        await orders.close()

    asyncio.run(scenario())


def test_a_call_whose_time_is_up_is_not_run_later(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails because another program writes for too long is not carried out when that is done."""
    monkeypatch.setattr("orders.storage.sqlite.BUSY_TIMEOUT_S", 0.0)

    async def scenario() -> None:
        orders = open_file(database)
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with monkeypatch.context() as impatient, pytest.raises(TimeoutError):
                impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 0.5)
                await orders.assign("late", "executor", "zone")
            # The attempt that was under way ends.
            await asyncio.sleep(0.3)
        assert await orders.assign("next", "executor", "zone") is True
        assert await orders.assign("late", "executor", "zone") is True, "the first assign was carried out"
        await orders.close()

    asyncio.run(scenario())


def test_a_commit_that_fails_answers_nobody_and_keeps_nothing(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk does not take a commit, its calls fail and leave nothing; the next ones succeed (D13)."""

    async def scenario() -> None:
        orders = open_file(database)

        session = writer_of(orders)
        trip = session.trip

        def no_space(*statements: Statement | None) -> list[Rows]:
            if session.queries.commit in statements:
                trip(*statements[:-1])
                raise OSError("no space left")
            return trip(*statements)

        with monkeypatch.context() as fault:
            fault.setattr(session, "trip", no_space)
            calls = [orders.assign(f"order-{n}", "executor", "zone") for n in range(5)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, OSError) for outcome in outcomes), outcomes
        assert await orders.acquire("executor") is None
        assert await orders.assign("order-0", "executor", "zone") is True
        await orders.close()

    asyncio.run(scenario())


def test_calls_that_wait_are_committed_together(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many writes that come at once share few commits."""

    async def scenario() -> int:
        orders = open_file(database)
        commits: list[Statement] = []
        session = writer_of(orders)
        trip = session.trip

        def counted(*statements: Statement | None) -> list[Rows]:
            commits.extend(statement for statement in statements if statement == session.queries.commit)
            return trip(*statements)

        monkeypatch.setattr(session, "trip", counted)
        calls = [orders.assign(f"order-{n}", f"executor-{n}", "zone") for n in range(100)]
        assert await asyncio.gather(*calls) == [True] * 100
        await orders.close()
        return len(commits)

    assert 1 <= asyncio.run(scenario()) < 20


def test_assigns_to_one_executor_are_committed_one_by_one(database: Path) -> None:
    """Assigns to one executor that come at once all succeed, in their order (D2, D12)."""

    async def scenario() -> None:
        orders = open_file(database)
        calls = [orders.assign(f"order-{n}", "executor", "zone") for n in range(20)]
        assert await asyncio.gather(*calls) == [True] * 20
        profile = await orders.acquire("executor")
        assert profile and profile["order_id"] == "order-19"
        await orders.close()

    asyncio.run(scenario())


def test_the_wal_does_not_grow_for_ever(database: Path) -> None:
    """What was committed is moved to the database while writes go on."""

    async def scenario() -> None:
        orders = open_file(database)
        for n in range(400):
            calls = [orders.assign(f"order-{n}-{m}", f"executor-{m}", "zone") for m in range(5)]
            assert await asyncio.gather(*calls) == [True] * 5
        size = Path(f"{database}-wal").stat().st_size
        await orders.close()
        assert size < 2000 * 4096, f"2,000 assigns left {size:,} bytes"

    asyncio.run(scenario())
    assert execute(database, "SELECT count(*) FROM assigned_order") == [(2000,)]
    assert not Path(f"{database}-wal").exists()


@pytest.mark.parametrize("pages", range(6))
def test_a_creation_that_was_cut_short_is_begun_again(database: Path, tmp_path: Path, pages: int) -> None:
    """A file of which a crash let only some pages be written, beside the journal that takes them back, opens."""
    prepare(DatabaseURL("sqlite", str(database)))
    whole = database.read_bytes()
    assert len(whole) == 5 * 4096
    crashed = tmp_path / "crashed.db"
    crashed.write_bytes(whole[: pages * 4096])
    # There was nothing before: no pages to take back, and 0 to be left (https://sqlite.org/fileformat2.html).
    journal = struct.pack(">8s5I", bytes.fromhex("d9d505f920a163d7"), 0, 1, 0, 512, 4096)
    Path(f"{crashed}-journal").write_bytes(journal.ljust(512, b"\0"))

    prepare(DatabaseURL("sqlite", str(crashed)))
    assert execute(crashed, "SELECT count(*) FROM assigned_order") == [(0,)]
    assert execute(crashed, "PRAGMA integrity_check") == [("ok",)]


def test_a_checkpoint_that_was_cut_short_is_finished(database: Path, tmp_path: Path) -> None:
    """A file whose last pages are only in the WAL, though its first page counts them, opens and has lost nothing."""

    async def scenario() -> None:
        orders = open_file(database)
        before = database.stat().st_size
        for n in range(100):
            await orders.assign(f"order-{n}", f"executor-{n}", "zone")
        execute(database, "PRAGMA wal_checkpoint(PASSIVE)")
        assert database.stat().st_size > before
        crashed = tmp_path / "crashed.db"
        crashed.write_bytes(database.read_bytes()[:before])
        Path(f"{crashed}-wal").write_bytes(Path(f"{database}-wal").read_bytes())
        await orders.close()

        orders = open_file(crashed)
        for n in range(100):
            assert await orders.assign(f"order-{n}", "other", "zone") is False, f"order-{n} is lost"
        await orders.close()
        assert execute(crashed, "PRAGMA integrity_check") == [("ok",)]

    asyncio.run(scenario())


def test_closing_commits_what_was_submitted(database: Path) -> None:
    """A database that is closed at once still writes what it had accepted."""

    async def submit() -> None:
        orders = open_file(database)
        calls = [asyncio.create_task(orders.assign(f"order-{n}", f"executor-{n}", "zone")) for n in range(50)]
        await asyncio.sleep(0)
        await orders.close()
        assert await asyncio.gather(*calls) == [True] * 50

    asyncio.run(submit())
    assert execute(database, "SELECT count(*) FROM assigned_order") == [(50,)]


def test_what_changes_nothing_writes_nothing(database: Path) -> None:
    """Refused assigns, repeated acquires, "no orders" and empty cancels leave the file as it is (D4)."""

    async def scenario() -> None:
        orders = open_file(database)
        await orders.assign("order", "executor", "zone")
        profile = await orders.acquire("executor")
        await orders.assign("cancelled", "other", "zone")
        await orders.cancel("cancelled")
        with closing(sqlite3.connect(database)) as observer:
            (version,) = observer.execute("PRAGMA data_version").fetchone()
            assert await orders.assign("order", "other", "zone") is False
            assert await orders.acquire("executor") == profile
            assert await orders.acquire("nobody") is None
            assert await orders.cancel("cancelled") is False
            assert await orders.cancel("nothing") is False
            assert observer.execute("PRAGMA data_version").fetchone() == (version,)
        await orders.close()

    asyncio.run(scenario())
