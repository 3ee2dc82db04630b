"""SQLite files: opening them, and the group commit: what is written when, and what a failure spoils."""

import asyncio
import fcntl
import multiprocessing
import os
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from harness.server import execute
from orders.book import OrderBook
from orders.database import DatabaseURL, open_store, prepare
from orders.jobs import Job
from orders.models import SCHEMA_VERSION
from orders.sqlite import SqliteStore, Turn
from orders.store import CannotOpenDatabase, Store


def open_file(database: Path) -> Store:
    """Prepare and open a database file, as the server does."""
    url = DatabaseURL("sqlite", str(database))
    prepare(url)
    return open_store(url, connections=1)


async def run(store: Store, method: str, *arguments: str) -> object:
    """Run one call on the book and wait for its result."""
    outcome = store.run(lambda book: getattr(book, method)(*arguments))
    return await outcome_of(outcome) if isinstance(outcome, Job) else outcome


async def outcome_of(job: Job[Any]) -> Any:
    """Wait for what a job comes to."""
    done = asyncio.Event()
    job.when_done(lambda _: done.set())
    await done.wait()
    return job.outcome()


def test_a_new_database_is_ours_and_durable(database: Path) -> None:
    """A new file is in WAL mode, says whose it is and of what version; connections sync each commit (D13)."""

    async def scenario() -> None:
        store = open_file(database)
        assert isinstance(store, SqliteStore)
        assert store._writer._database.synchronous == 2, "FULL"
        assert store._writer._database.journal_mode == "wal"
        assert store._writer._database.pragma("user_version") == SCHEMA_VERSION
        await store.close()

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
    monkeypatch.setattr("orders.sqlite.BUSY_TIMEOUT_S", 0.1)
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


async def outcome_or_none(job: Job[bool], timeout_s: float) -> bool | None:
    """Return what a job comes to within some time."""
    try:
        return await asyncio.wait_for(outcome_of(job), timeout_s)
    except TimeoutError:
        return None


def test_the_answer_comes_after_the_commit(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the commit cannot happen, there is no answer (D13)."""

    async def scenario() -> None:
        store = open_file(database)
        assert isinstance(store, SqliteStore)
        may_commit = threading.Event()
        commit = store._writer._database.commit

        def commit_when_allowed() -> None:
            may_commit.wait(20)
            commit()

        monkeypatch.setattr(store._writer._database, "commit", commit_when_allowed)
        call = store.run(lambda book: book.assign("order", "executor", "zone"))
        assert isinstance(call, Job)
        assert await outcome_or_none(call, 0.3) is None, "answered before the commit"
        assert await run(store, "acquire", "executor") is None, "visible before the commit"
        may_commit.set()
        assert await outcome_or_none(call, 20) is True
        await store.close()

    asyncio.run(scenario())


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
    """A write that cannot have its turn fails in the end; the next one that can, succeeds."""
    monkeypatch.setattr("orders.sqlite.BUSY_TIMEOUT_S", 0.3)
    keep = """if True:
        import sys, time
        from orders.sqlite import Turn
        turn = Turn(sys.argv[1])
        print(turn.take(), flush=True)
        time.sleep(60)
    """

    async def scenario() -> None:
        store = open_file(database)
        with another_process(keep, f"{database}-lock"), pytest.raises(TimeoutError):
            await run(store, "assign", "order", "executor", "zone")
        assert await run(store, "assign", "order", "executor", "zone") is True
        await store.close()

    asyncio.run(scenario())


def test_a_busy_process_does_not_keep_others_from_their_turn(tmp_path: Path) -> None:
    """Whoever waits comes next, however soon the process that has just written wants to write again."""
    obey = """if True:
        import sys
        from orders.sqlite import Turn
        turn = Turn(sys.argv[1])
        print("ready", flush=True)
        for line in sys.stdin:
            print(getattr(turn, line.strip())(), flush=True)
    """
    path = str(tmp_path / "lock")
    with closing(Turn(path)) as turn, another_process(obey, path) as busy:

        def tell(method: str) -> str:
            assert busy.stdin and busy.stdout
            busy.stdin.write(f"{method}\n")
            busy.stdin.flush()
            return busy.stdout.readline().strip()

        for _ in range(3):
            assert tell("take") == "True"
            assert not turn.take(), "two had the lock"
            tell("pass_on")
            assert tell("take") == "False", "the busy process had another turn"
            assert turn.take(), "who waited did not come next"
            assert tell("take") == "False", "two had the lock"
            turn.pass_on()
            assert not turn.take(), "the other process waited, too, and did not come next"
            assert tell("take") == "True"
            tell("pass_on")


def test_another_program_that_writes_is_waited_for(database: Path) -> None:
    """A program that knows nothing of turns, the SQLite shell say, delays a write and keeps no read waiting."""

    async def scenario() -> None:
        store = open_file(database)
        with closing(sqlite3.connect(database, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            call = store.run(lambda book: book.assign("order", "executor", "zone"))
            assert isinstance(call, Job)
            assert await outcome_or_none(call, 0.2) is None, "written beside another program's transaction"
            assert await run(store, "acquire", "executor") is None
            shell.execute("COMMIT")
            assert await outcome_or_none(call, 20) is True
        await store.close()

    asyncio.run(scenario())


def test_a_commit_that_fails_answers_nobody_and_keeps_nothing(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk does not take a commit, its calls fail and leave nothing; the next ones succeed (D13)."""

    async def scenario() -> None:
        store = open_file(database)
        assert isinstance(store, SqliteStore)

        def no_space() -> None:
            raise OSError("no space left")

        with monkeypatch.context() as fault:
            fault.setattr(store._writer._database, "commit", no_space)
            calls = [run(store, "assign", f"order-{n}", "executor", "zone") for n in range(5)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, OSError) for outcome in outcomes), outcomes
        assert await run(store, "acquire", "executor") is None
        assert await run(store, "assign", "order-0", "executor", "zone") is True
        await store.close()

    asyncio.run(scenario())


def test_calls_that_wait_are_committed_together(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many writes that come at once share few commits, one after the other in their order."""

    async def scenario() -> int:
        store = open_file(database)
        assert isinstance(store, SqliteStore)
        commits: list[None] = []
        commit = store._writer._database.commit
        monkeypatch.setattr(store._writer._database, "commit", lambda: commits.append(commit()))
        outcomes = await asyncio.gather(*(run(store, "assign", f"order-{n}", "executor", "zone") for n in range(100)))
        assert outcomes == [True] * 100
        assert (await run(store, "acquire", "executor"))["order_id"] == "order-99"  # type: ignore[index]
        await store.close()
        return len(commits)

    assert 1 < asyncio.run(scenario()) < 20


def test_a_bad_call_does_not_spoil_its_group(database: Path) -> None:
    """Of calls that are committed together, one that fails is rolled back alone."""

    def fail_after_writing(book: OrderBook) -> bool:
        book.assign("bad", "executor-bad", "zone")
        raise RuntimeError("after the write")

    async def scenario() -> None:
        store = open_file(database)
        calls = [
            store.run(lambda book: book.assign("before", "executor-1", "zone")),
            store.run(fail_after_writing),
            store.run(lambda book: book.assign("after", "executor-2", "zone")),
        ]
        assert all(isinstance(call, Job) for call in calls)
        outcomes = await asyncio.gather(
            *(outcome_of(call) for call in calls if isinstance(call, Job)), return_exceptions=True
        )
        assert outcomes[0] is True
        assert isinstance(outcomes[1], RuntimeError)
        assert outcomes[2] is True
        assert await run(store, "cancel", "bad") is False
        assert await run(store, "cancel", "after") is True
        await store.close()

    asyncio.run(scenario())


def test_there_is_one_checkpoint_at_a_time(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process moves the WAL, this one leaves the database alone; SQLite itself might lose commits."""
    monkeypatch.setattr("orders.sqlite.CHECKPOINT_AFTER", 1)
    move = """if True:
        import sys, time
        from orders.sqlite import Turn
        turn = Turn(sys.argv[1])
        print(turn.take_checkpoint(), flush=True)
        time.sleep(60)
    """

    async def scenario() -> None:
        store = open_file(database)
        before = database.read_bytes()
        with another_process(move, f"{database}-lock"):
            for n in range(20):
                assert await run(store, "assign", f"order-{n}", "executor", "zone") is True
            assert database.read_bytes() == before, "there was a second checkpoint"
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("max_frames", [100, 200])
def test_the_wal_does_not_grow_for_ever(database: Path, monkeypatch: pytest.MonkeyPatch, max_frames: int) -> None:
    """What was committed is moved to the database while writes go on, by the writer itself if it falls behind."""
    monkeypatch.setattr("orders.sqlite.CHECKPOINT_AFTER", 20)
    monkeypatch.setattr("orders.sqlite.MAX_WAL_FRAMES", max_frames)

    async def scenario() -> None:
        store = open_file(database)
        for n in range(200):
            calls = [run(store, "assign", f"order-{n}-{m}", f"executor-{m}", "zone") for m in range(5)]
            assert await asyncio.gather(*calls) == [True] * 5
        size = Path(f"{database}-wal").stat().st_size
        await store.close()
        assert size < 1000 * 4096, f"1,000 assigns left {size:,} bytes"

    asyncio.run(scenario())
    assert execute(database, "SELECT count(*) FROM assigned_order") == [(1000,)]
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
        store = open_file(database)
        before = database.stat().st_size
        for n in range(100):
            await run(store, "assign", f"order-{n}", f"executor-{n}", "zone")
        execute(database, "PRAGMA wal_checkpoint(PASSIVE)")
        assert database.stat().st_size > before
        crashed = tmp_path / "crashed.db"
        crashed.write_bytes(database.read_bytes()[:before])
        Path(f"{crashed}-wal").write_bytes(Path(f"{database}-wal").read_bytes())
        await store.close()

        store = open_file(crashed)
        for n in range(100):
            assert await run(store, "assign", f"order-{n}", "other", "zone") is False, f"order-{n} is lost"
        await store.close()
        assert execute(crashed, "PRAGMA integrity_check") == [("ok",)]

    asyncio.run(scenario())


def test_closing_commits_what_was_submitted(database: Path) -> None:
    """A store that is closed at once still writes what it had accepted."""

    async def submit() -> None:
        store = open_file(database)
        for n in range(50):
            store.run(lambda book, n=n: book.assign(f"order-{n}", f"executor-{n}", "zone"))  # type: ignore[misc]
        await store.close()

    asyncio.run(submit())
    assert execute(database, "SELECT count(*) FROM assigned_order") == [(50,)]


def test_what_changes_nothing_writes_nothing(database: Path) -> None:
    """Refused assigns, repeated acquires, "no orders" and empty cancels are answered without a write (D4)."""

    async def scenario() -> None:
        store = open_file(database)
        await run(store, "assign", "order", "executor", "zone")
        profile = await run(store, "acquire", "executor")
        await run(store, "assign", "cancelled", "other", "zone")
        await run(store, "cancel", "cancelled")
        observer = sqlite3.connect(database)
        (version,) = observer.execute("PRAGMA data_version").fetchone()
        for method, arguments, expected in [
            ("assign", ("order", "other", "zone"), False),
            ("acquire", ("executor",), profile),
            ("acquire", ("nobody",), None),
            ("cancel", ("cancelled",), False),
            ("cancel", ("nothing",), False),
        ]:
            outcome = store.run(lambda book, m=method, a=arguments: getattr(book, m)(*a))  # type: ignore[misc]
            assert not isinstance(outcome, Job), f"{method} {arguments} waited for the writer"
            assert outcome == expected
        assert observer.execute("PRAGMA data_version").fetchone() == (version,)
        observer.close()
        await store.close()

    asyncio.run(scenario())
