"""SQLite: how files are prepared, how processes and other programs take turns, and what is durable when."""

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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from harness.server import TIMEOUT_S, execute, wait_until
from orders.lifecycle import Orders
from orders.storage.models import SCHEMA_VERSION, CannotOpenDatabase
from orders.storage.queries import Rows, Statement
from orders.storage.sets import DatabaseUnusable
from orders.storage.sqlite import Session
from tests.storage.scenarios import opened, prepare, run

NOBODY = 65534


@pytest.fixture
def prepared(database: Path) -> Path:
    """The path of a new database of ours."""
    prepare(database)
    return database


def writer_of(orders: Orders) -> Session:
    """Return the session that writes."""
    (session,) = orders._writes._sessions
    assert isinstance(session, Session)
    return session


async def result_or_none(call: "asyncio.Task[bool]", timeout_s: float) -> bool | None:
    """Return the result of a call, or None if it has none within some seconds."""
    await asyncio.wait([call], timeout=timeout_s)
    return call.result() if call.done() else None


# Preparing


def test_a_new_database_is_ours_and_durable(prepared: Path) -> None:
    """A new file is in WAL mode and says whose it is and of what version; each commit waits for the disk (D13)."""

    async def scenario(orders: Orders) -> None:
        ((synchronous,),), ((mode,),), ((version,),) = writer_of(orders).trip(
            ("PRAGMA synchronous", []), ("PRAGMA journal_mode", []), ("PRAGMA user_version", [])
        )
        assert (synchronous, mode, version) == (2, "wal", SCHEMA_VERSION), "2 is FULL"

    run(prepared, scenario)


def test_preparing_twice_changes_nothing(prepared: Path) -> None:
    """An existing database is used as it is."""
    before = prepared.read_bytes()
    prepare(prepared)
    assert prepared.read_bytes() == before


def prepare_together(databases: list[Path], barrier: Barrier, reports: Connection) -> None:
    """Prepare some databases, each at the same moment as other processes do. Report the errors."""
    errors = []
    for path in databases:
        barrier.wait(TIMEOUT_S)
        try:
            prepare(path)
        except CannotOpenDatabase as error:
            errors.append(str(error))
    reports.send(errors)


def test_many_processes_may_create_the_database_at_once(tmp_path: Path) -> None:
    """If several processes start together on a new file, none of them fails."""
    databases = [tmp_path / f"{number}.db" for number in range(100)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    received, reports = context.Pipe(duplex=False)
    processes = [
        context.Process(target=prepare_together, args=(databases, barrier, reports)) for _ in range(barrier.parties)
    ]
    for process in processes:
        process.start()
    errors = [received.recv() if received.poll(2 * TIMEOUT_S) else "no report" for _ in processes]
    for process in processes:
        process.join()
        process.close()
    received.close()
    reports.close()
    assert errors == [[]] * len(processes)


def test_a_server_does_not_wait_for_another_process_for_ever(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process does not end its preparations, a server gives up, says why, and leaves nothing behind."""
    monkeypatch.setattr("orders.storage.sqlite.PREPARE_TIMEOUT_S", 0.1)
    other = os.open(database.parent, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(CannotOpenDatabase) as raised:
        prepare(database)
    os.close(other)
    assert str(raised.value) == (
        f"cannot open database {database}: another process has been preparing a database beside it for 0.1 s"
    )
    assert not list(database.parent.iterdir())
    prepare(database)


def make_other_program(path: Path) -> None:
    """Make a database of another program, with a table of our name."""
    execute(path, "CREATE TABLE assigned_order (something TEXT)")


def make_other_program_that_has_crashed(path: Path) -> None:
    """Make a database of another program that has left its WAL. Any program that opens the file would remove it."""
    original = path.with_name("original")
    make_other_program(original)
    with closing(sqlite3.connect(original, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("INSERT INTO assigned_order VALUES ('valuable')")
        for suffix in ("", "-wal"):
            shutil.copy(f"{original}{suffix}", f"{path}{suffix}")


def make_newer_release(path: Path) -> None:
    """Make a database of a later release."""
    prepare(path)
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def make_without_an_index(path: Path) -> None:
    """Make a database of ours that lacks an index."""
    prepare(path)
    execute(path, "DROP INDEX assigned_order_active_executor")


def make_with_another_column(path: Path) -> None:
    """Make a database of ours in which a column has another name."""
    prepare(path)
    execute(path, "ALTER TABLE assigned_order RENAME COLUMN zone_id TO zone")


def make_a_directory_of_its_lock(path: Path) -> None:
    """Make a database of ours that can be prepared, but that no worker can open."""
    prepare(path)
    Path(f"{path}-lock").mkdir()


def make_fifo(path: Path) -> None:
    """Make something that is neither a file nor a directory."""
    os.mkfifo(path)


def make_text(path: Path) -> None:
    """Make a file that is no database."""
    path.write_text("These are not orders.\n" * 100)


def make_one_byte(path: Path) -> None:
    """Make a file that has fewer bytes than a database has at least."""
    path.write_bytes(b"x")


def make_other_empty(path: Path) -> None:
    """Make a database of another program that has no tables yet."""
    execute(path, "VACUUM")
    assert path.stat().st_size


def make_wal_without_database(path: Path) -> None:
    """Make a WAL whose database has been moved. SQLite would remove it."""
    Path(f"{path}-wal").write_bytes(b"orders")


def make_directory(path: Path) -> None:
    """Make a directory."""
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (make_other_program, "belongs to another program"),
        (make_other_program_that_has_crashed, "belongs to another program"),
        (make_newer_release, f"has schema version {SCHEMA_VERSION + 1}"),
        (make_other_empty, "belongs to another program"),
        (make_wal_without_database, "it is gone, but .*-wal has orders of it"),
        (make_text, "the file is not a database"),
        (make_one_byte, "the file is not a database"),
        (make_directory, "it is a directory"),
        (make_fifo, "it is not a file"),
        (make_without_an_index, "it lacks the index assigned_order_active_executor"),
        (make_with_another_column, "it lacks the column zone_id"),
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(database: Path, make: Callable[[Path], None], complaint: str) -> None:
    """A foreign, newer or broken file is refused; it does not change, and no other file appears beside it."""
    make(database)
    before = {path: path.read_bytes() for path in database.parent.iterdir() if path.is_file()}
    with pytest.raises(CannotOpenDatabase, match=complaint):
        prepare(database)
    assert {path: path.read_bytes() for path in database.parent.iterdir() if path.is_file()} == before


def test_a_missing_directory_is_not_created(tmp_path: Path) -> None:
    """A path in a directory that does not exist is refused."""
    with pytest.raises(CannotOpenDatabase, match="there is no directory"):
        prepare(tmp_path / "no" / "orders.db")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that every user of the machine can reach."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


def prepare_as_nobody(path: Path, reports: Connection) -> None:
    """Prepare a database without root's privilege to write everywhere. Report the error."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        prepare(path)
    except CannotOpenDatabase as error:
        reports.send(str(error))


@pytest.mark.parametrize("read_only", ["file", "directory"])
def test_a_database_that_is_read_only_is_refused(public_directory: Path, read_only: str) -> None:
    """A file or directory that cannot be written to is named at the start, not at the first write."""
    database = public_directory / "orders.db"
    prepare(database)
    database.chmod(0o444 if read_only == "file" else 0o666)
    public_directory.chmod(0o555 if read_only == "directory" else 0o777)
    context = multiprocessing.get_context("fork")
    received, reports = context.Pipe(duplex=False)
    process = context.Process(target=prepare_as_nobody, args=(database, reports))
    process.start()
    process.join()
    public_directory.chmod(0o777)
    assert received.poll(), "the database was accepted"
    refused = database if read_only == "file" else public_directory
    assert received.recv() == f"cannot open database {database}: {refused} cannot be read and written"
    received.close()
    reports.close()
    process.close()


@pytest.mark.parametrize("pages", range(6))
def test_a_creation_that_a_crash_cut_short_starts_again(prepared: Path, tmp_path: Path, pages: int) -> None:
    """A file opens if a crash left only some of its first pages, beside the journal that undoes them."""
    whole = prepared.read_bytes()
    assert len(whole) == 5 * 4096
    crashed = tmp_path / "crashed.db"
    crashed.write_bytes(whole[: pages * 4096])
    # The journal of an empty database: it restores no page and cuts the file to 0 pages
    # (https://sqlite.org/fileformat2.html).
    journal = struct.pack(">8s5I", bytes.fromhex("d9d505f920a163d7"), 0, 1, 0, 512, 4096)
    Path(f"{crashed}-journal").write_bytes(journal.ljust(512, b"\0"))

    prepare(crashed)
    assert execute(crashed, "SELECT count(*) FROM assigned_order") == [(0,)]
    assert execute(crashed, "PRAGMA integrity_check") == [("ok",)]


def test_a_checkpoint_that_a_crash_cut_short_is_finished(prepared: Path, tmp_path: Path) -> None:
    """A file opens and has all orders if its first page counts pages that are only in the WAL."""
    crashed = tmp_path / "crashed.db"

    async def fill(orders: Orders) -> None:
        before = prepared.stat().st_size
        for n in range(100):
            await orders.assign(f"order-{n}", f"executor-{n}", "zone")
        execute(prepared, "PRAGMA wal_checkpoint(PASSIVE)")
        assert prepared.stat().st_size > before
        crashed.write_bytes(prepared.read_bytes()[:before])
        Path(f"{crashed}-wal").write_bytes(Path(f"{prepared}-wal").read_bytes())

    async def check(orders: Orders) -> None:
        for n in range(100):
            assert await orders.assign(f"order-{n}", "other", "zone") is False, f"order-{n} is lost"

    run(prepared, fill)
    prepare(crashed)
    run(crashed, check)
    assert execute(crashed, "PRAGMA integrity_check") == [("ok",)]


# A file that is renamed, removed or replaced


@contextmanager
def renamed(database: Path) -> Iterator[Path]:
    """Rename a database until the end of the block. Give its new path."""
    moved = database.with_name("moved.db")
    database.rename(moved)
    yield moved
    moved.rename(database)


@pytest.mark.parametrize("replace", [None, Path.touch, prepare], ids=["nothing", "an empty file", "another database"])
def test_a_worker_opens_the_file_that_was_prepared(
    prepared: Path, tmp_path: Path, replace: Callable[[Path], None] | None
) -> None:
    """If the file has been renamed before a worker opens it, the worker creates none and leaves the WAL alone."""
    another = tmp_path / "another.db"
    if replace is not None:
        replace(another)
    with renamed(prepared):
        wal = Path(f"{prepared}-wal")
        wal.write_bytes(b"orders")
        if replace is not None:
            another.rename(prepared)
        before = prepared.read_bytes() if prepared.exists() else None
        with pytest.raises(CannotOpenDatabase):
            run(prepared, Orders.ping)
        assert (prepared.read_bytes() if prepared.exists() else None) == before
        assert wal.read_bytes() == b"orders"
        wal.unlink()
    run(prepared, Orders.ping)


def test_calls_fail_while_the_file_is_renamed(prepared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All calls fail until the file is back, the log says so once, and the renamed file has all orders (D13)."""

    async def scenario(orders: Orders) -> None:
        assert await orders.assign("before", "executor", "zone") is True
        with renamed(prepared) as moved:
            calls = [orders.assign("order", "other", "zone"), orders.acquire("executor"), orders.cancel("before")]
            outcomes = await asyncio.gather(*calls, orders.ping(), return_exceptions=True)
            assert [str(outcome) for outcome in outcomes] == [
                "the database file is gone, or another file is in its place"
            ] * 4
            assert all(isinstance(outcome, DatabaseUnusable) for outcome in outcomes), outcomes
            assert execute(moved, "SELECT order_id FROM assigned_order") == [("before",)]
            assert not prepared.exists()
        await orders.ping()
        assert await orders.assign("order", "other", "zone") is True
        assert await orders.cancel("before") is True

    run(prepared, scenario)
    assert [record.getMessage() for record in caplog.records] == [
        f"the database {prepared} is gone, or another file is in its place: requests fail until it is back",
        f"the database {prepared} is back",
    ]
    assert execute(prepared, "SELECT count(*) FROM assigned_order") == [(2,)]


def test_a_file_that_is_renamed_before_the_stop_has_all_orders(prepared: Path) -> None:
    """A server that stops leaves no order in the WAL of a renamed file (D13)."""

    async def scenario(orders: Orders) -> Path:
        assert await orders.assign("order", "executor", "zone") is True
        return prepared.rename(prepared.with_name("moved.db"))

    assert execute(run(prepared, scenario), "SELECT order_id FROM assigned_order") == [("order",)]


# Turns


class OtherProcess:
    """Another process that takes the lock of a database each time it is told to, and leaves it when it is told to."""

    CODE = """if True:
        import sys
        from orders.storage.sqlite import Lock
        lock = Lock(sys.argv[1])
        print("ready", flush=True)
        for line in sys.stdin:
            print("wants the lock", flush=True)
            with lock:
                print("has the lock", flush=True)
                sys.stdin.readline()
    """

    def __init__(self, database: Path) -> None:
        """Start the process. It says "ready" when it is."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, *lines: str) -> None:
        """Tell the process to go on: each line makes it take the lock or leave it."""
        assert self.process.stdin
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def says(self) -> str:
        """Return the next line that the process prints."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def waits(self) -> bool:
        """Return whether the process waits for a file lock that another process holds."""
        locks = Path("/proc/locks").read_text().splitlines()
        return any("->" in line and line.split()[5] == str(self.process.pid) for line in locks)


@contextmanager
def other_process(database: Path) -> Iterator[OtherProcess]:
    """Run another process until the end of the block."""
    other = OtherProcess(database)
    with other.process:
        try:
            assert other.says() == "ready"
            yield other
        finally:
            other.process.kill()


def test_a_process_that_keeps_the_lock_does_not_stop_the_service(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that gets no turn fails in the end while polls are answered; when the lock is free, writes succeed."""

    async def scenario(orders: Orders) -> None:
        with other_process(prepared) as other:
            other.tell("take")
            assert (other.says(), other.says()) == ("wants the lock", "has the lock")
            with monkeypatch.context() as impatient, pytest.raises(TimeoutError):
                impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 0.3)
                await orders.assign("order", "executor", "zone")
            assert await orders.acquire("executor") is None
        assert await orders.assign("order", "executor", "zone") is True

    run(prepared, scenario)


def test_a_busy_process_does_not_keep_others_from_their_turn(database: Path) -> None:
    """A process that waits comes next, even if the process that has just written wants to write again at once."""
    with other_process(database) as one, other_process(database) as other:
        one.tell("take")
        assert (one.says(), one.says()) == ("wants the lock", "has the lock")
        other.tell("take")
        assert other.says() == "wants the lock"
        for _ in range(5):
            wait_until(other.waits, "the other process waits for its turn")
            one.tell("leave", "take")
            assert other.says() == "has the lock", "the process that waited did not come next"
            assert one.says() == "wants the lock"
            one, other = other, one


def test_a_write_waits_for_another_program_that_writes(prepared: Path) -> None:
    """A program that does not take turns, for example the SQLite shell, delays a write and no read."""

    async def scenario(orders: Orders) -> None:
        with closing(sqlite3.connect(prepared, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            call = asyncio.create_task(orders.assign("order", "executor", "zone"))
            assert await result_or_none(call, 0.2) is None, "written beside another program's transaction"
            assert await orders.acquire("executor") is None
            shell.execute("COMMIT")
            assert await result_or_none(call, 60) is True

    run(prepared, scenario)


def test_a_call_whose_time_is_up_does_not_run_later(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails because another program writes for too long does not run when that program is done."""
    monkeypatch.setattr("orders.storage.sqlite.BUSY_TIMEOUT_S", 0.0)
    attempts: list[None] = []

    async def scenario(orders: Orders) -> None:
        session = writer_of(orders)
        trip = session.trip

        def counted_trip(*statements: Statement | None) -> list[Rows]:
            attempts.append(None)
            return trip(*statements)

        monkeypatch.setattr(session, "trip", counted_trip)
        with closing(sqlite3.connect(prepared, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with monkeypatch.context() as impatient, pytest.raises(TimeoutError):
                impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 0.5)
                await orders.assign("late", "executor", "zone")
            following = asyncio.create_task(orders.assign("next", "executor", "zone"))
            # One attempt follows the other. When the second from now begins, the last one for the late assign is over.
            before = len(attempts)
            while len(attempts) < before + 2:
                await asyncio.sleep(0.01)
        assert await following is True
        assert await orders.assign("late", "executor", "zone") is True, "the first assign ran after all"

    run(prepared, scenario)


# Commits


def on_commit(orders: Orders, monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> None:
    """Call a function just before each commit, when the other statements of its trip have run."""
    session = writer_of(orders)
    trip = session.trip

    def trip_with_action(*statements: Statement | None) -> list[Rows]:
        *others, last = statements
        if last != session.queries.commit:
            return trip(*statements)
        rows = trip(*others)
        action()
        return [*rows, *trip(last)]

    monkeypatch.setattr(session, "trip", trip_with_action)


def test_the_answer_comes_after_the_commit(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the commit cannot happen, there is no answer (D13)."""

    async def scenario(orders: Orders) -> None:
        may_commit = Event()
        on_commit(orders, monkeypatch, lambda: may_commit.wait(60))
        call = asyncio.create_task(orders.assign("order", "executor", "zone"))
        assert await result_or_none(call, 0.3) is None, "answered before the commit"
        assert await orders.acquire("executor") is None, "visible before the commit"
        may_commit.set()
        assert await result_or_none(call, 60) is True

    run(prepared, scenario)


def test_a_commit_that_fails_answers_nobody_and_keeps_nothing(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk does not take a commit, its calls fail and leave nothing; the next calls succeed (D13)."""

    def no_space() -> None:
        raise OSError("no space left")

    async def scenario(orders: Orders) -> None:
        with monkeypatch.context() as fault:
            on_commit(orders, fault, no_space)
            calls = [orders.assign(f"order-{n}", "executor", "zone") for n in range(5)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, OSError) for outcome in outcomes), outcomes
        assert await orders.acquire("executor") is None
        assert await orders.assign("order-0", "executor", "zone") is True

    run(prepared, scenario)


def test_calls_that_wait_are_committed_together(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many writes that arrive together share few commits."""
    commits: list[None] = []

    async def scenario(orders: Orders) -> None:
        on_commit(orders, monkeypatch, lambda: commits.append(None))
        calls = [orders.assign(f"order-{n}", f"executor-{n}", "zone") for n in range(100)]
        assert await asyncio.gather(*calls) == [True] * 100

    run(prepared, scenario)
    assert 1 <= len(commits) < 20


def test_assigns_to_one_executor_are_committed_one_by_one(prepared: Path) -> None:
    """Assigns to one executor that arrive together all succeed, in their order (D2, D12)."""

    async def scenario(orders: Orders) -> None:
        calls = [orders.assign(f"order-{n}", "executor", "zone") for n in range(20)]
        assert await asyncio.gather(*calls) == [True] * 20
        profile = await orders.acquire("executor")
        assert profile and profile["order_id"] == "order-19"

    run(prepared, scenario)


def test_calls_that_change_nothing_write_nothing(prepared: Path) -> None:
    """Refused assigns, repeated acquires, acquires without an order and empty cancels do not change the file (D4)."""

    async def scenario(orders: Orders) -> None:
        await orders.assign("order", "executor", "zone")
        profile = await orders.acquire("executor")
        await orders.assign("cancelled", "other", "zone")
        await orders.cancel("cancelled")
        with closing(sqlite3.connect(prepared)) as observer:
            (version,) = observer.execute("PRAGMA data_version").fetchone()
            assert await orders.assign("order", "other", "zone") is False
            assert await orders.acquire("executor") == profile
            assert await orders.acquire("nobody") is None
            assert await orders.cancel("cancelled") is False
            assert await orders.cancel("nothing") is False
            assert observer.execute("PRAGMA data_version").fetchone() == (version,)

    run(prepared, scenario)


def test_the_wal_does_not_grow_for_ever(prepared: Path) -> None:
    """Committed orders move from the WAL to the database file while writes go on."""

    async def scenario(orders: Orders) -> int:
        for n in range(400):
            calls = [orders.assign(f"order-{n}-{m}", f"executor-{m}", "zone") for m in range(5)]
            assert await asyncio.gather(*calls) == [True] * 5
        return Path(f"{prepared}-wal").stat().st_size

    size = run(prepared, scenario)
    assert size < 2000 * 4096, f"2,000 assigns left {size:,} bytes"
    assert execute(prepared, "SELECT count(*) FROM assigned_order") == [(2000,)]
    assert not Path(f"{prepared}-wal").exists()


def test_a_wal_that_has_grown_becomes_small_again(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is in the way lets the WAL grow. When the reader is gone, the WAL is emptied."""
    monkeypatch.setattr("orders.storage.sqlite.MAX_WAL_BYTES", 100_000)
    wal = Path(f"{prepared}-wal")

    async def scenario(orders: Orders) -> None:
        with closing(sqlite3.connect(prepared, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM assigned_order").fetchall()
            numbers = iter(range(1000))
            while wal.stat().st_size < 200_000:
                await orders.assign(f"order-{next(numbers)}", "executor", "zone")
        size = wal.stat().st_size
        while wal.stat().st_size >= size:
            size = wal.stat().st_size
            await orders.assign(f"order-{next(numbers)}", "executor", "zone")
        assert wal.stat().st_size == 0

    run(prepared, scenario)


def test_a_commit_reserves_the_room_for_its_checkpoint(prepared: Path) -> None:
    """The database file has room for all orders as soon as they are answered, while they are still in the WAL."""

    async def scenario(orders: Orders) -> None:
        before = prepared.stat().st_size
        await asyncio.gather(*(orders.assign(f"order-{n}", f"executor-{n}", "zone" * 60) for n in range(100)))
        ((pages,),) = execute(prepared, "PRAGMA page_count")
        assert prepared.stat().st_size == pages * 4096 > before
        assert Path(f"{prepared}-wal").stat().st_size > pages * 4096 - before, "the orders are not in the WAL"

    run(prepared, scenario)


def test_a_full_disk_is_known_before_a_write_fails(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has not written yet knows that the disk is full, as the other workers do."""

    async def scenario(orders: Orders) -> None:
        await orders.ping()
        monkeypatch.setattr("orders.storage.sqlite.MIN_ROOM_BYTES", sys.maxsize)
        with pytest.raises(DatabaseUnusable, match="the disk is full"):
            await orders.ping()

    run(prepared, scenario)


def test_closing_commits_the_calls_that_wait(prepared: Path) -> None:
    """A database that is closed at once still writes the orders of all calls that it has accepted."""

    async def scenario() -> None:
        async with opened(prepared) as orders:
            calls = [asyncio.create_task(orders.assign(f"order-{n}", f"executor-{n}", "zone")) for n in range(50)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == [True] * 50

    asyncio.run(scenario())
    assert execute(prepared, "SELECT count(*) FROM assigned_order") == [(50,)]
