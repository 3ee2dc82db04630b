"""Orders in an SQLite file, or in memory: for one host, and as many processes as it has cores.

Statements take microseconds, so they run on the event loop itself. What waits is done on a thread: for other processes
that write, and for the disk at a commit. All the calls that gather meanwhile become the next transaction, and are
answered after its commit: one wait for the disk serves many clients.
"""

import asyncio
import errno
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from peewee import PeeweeException, SqliteDatabase

from orders.book import OrderBook
from orders.jobs import Job
from orders.models import SCHEMA_VERSION, create_tables, missing_parts
from orders.store import CannotOpenDatabase, Store, WriteNeeded, refuse_to_write

T = TypeVar("T")

logger = logging.getLogger("orders")

# "ORDS" in the header of the file (PRAGMA application_id) tells our databases from other programs'.
APPLICATION_ID = 0x4F524453

BUSY_TIMEOUT_S = 10.0
TURN_POLL_S = 0.0005
NEXT, NOW, CHECKPOINT = 0, 1, 2
MAX_GROUP = 500
# An assign changes two rows and writes some 4 pages, each of them a frame of the WAL.
CHECKPOINT_AFTER = 500
MAX_WAL_FRAMES = 10_000
MEMORY = ":memory:"


def prepare(path: str) -> None:
    """Create the file if there is none, and see that it is ours and can be written to.

    Raises CannotOpenDatabase, having changed nothing that is not ours.
    """
    if path == MEMORY:
        return
    try:
        _refuse_unusable(path)
        with _alone(path):
            _refuse_foreign(path)
            # Not in WAL mode yet: what says that the file is ours must be in the file itself from the start.
            database = database_of(path)
            with closing(database):
                create_schema(database)
                if (mode := database.pragma("journal_mode", "wal")) != "wal":
                    raise CannotOpenDatabase(f"its journal mode is {mode} and cannot be made wal")
    except (CannotOpenDatabase, PeeweeException, sqlite3.Error, OSError) as error:
        raise CannotOpenDatabase(f"cannot open database {path}: {error}") from error


def open_store(path: str) -> Store:
    """Open the database for the running event loop. A file must have been prepared. Raises CannotOpenDatabase."""
    try:
        return MemoryStore() if path == MEMORY else SqliteStore(path)
    except (PeeweeException, OSError) as error:
        raise CannotOpenDatabase(f"cannot open database {path}: {error}") from error


def database_of(path: str, **options: Any) -> SqliteDatabase:
    """Return the database at a path, every commit to which waits for the disk; `options` are Peewee's."""
    # Times are text, which SQLite has no better type for.
    settings = {"timeout": BUSY_TIMEOUT_S, "field_types": {"TIMESTAMPTZ": "TEXT"}, **options}
    return SqliteDatabase(path, pragmas={"synchronous": "full", "wal_autocheckpoint": 0}, **settings)


def started_thread(name: str) -> ThreadPoolExecutor:
    """Return a thread that runs already: one that cannot be started is found out now, not at the first write."""
    thread = ThreadPoolExecutor(1, name)
    thread.submit(int).result()
    return thread


class MemoryStore:
    """A database in memory: no disk to wait for, so each call is a transaction on the event loop."""

    def __init__(self) -> None:
        self._database = database_of(MEMORY)
        create_schema(self._database)
        self._book = OrderBook(self._database)

    def run(self, call: Callable[[OrderBook], T]) -> T:
        """Run `call` in one transaction and return its result."""
        with self._database.atomic():
            return call(self._book)

    async def close(self) -> None:
        """Close, and so forget, the database."""
        self._database.close()


class SqliteStore:
    """An SQLite file: reads at once, writes in groups."""

    def __init__(self, path: str) -> None:
        self._database = database_of(path)
        self._database.connect()
        self._reader = OrderBook(self._database, before_write=refuse_to_write)
        self._writer = GroupWriter(path)

    def run(self, call: Callable[[OrderBook], T]) -> T | Job[T]:
        """Try `call` on what is committed; if it has to write, hand it to the writer and return the job."""
        try:
            return call(self._reader)
        except WriteNeeded:
            return self._writer.submit(call)

    async def close(self) -> None:
        """Commit what was submitted, then close the database."""
        self._database.close()
        await self._writer.close()


class GroupWriter:
    """Runs calls that write in the order in which they came, many in one transaction (group commit).

    The calls take microseconds and run on the event loop. The disk is waited for on a thread; meanwhile the next group
    gathers. While another process writes, the thread does everything, so that nobody's turn is spent waiting for the
    loop.
    """

    def __init__(self, path: str) -> None:
        self._turn = Turn(f"{path}-lock")
        # The loop and the thread use the connection one after the other.
        self._database = database_of(path, thread_safe=False, check_same_thread=False, timeout=0)
        self._database.connect()
        self._book = OrderBook(self._database)
        self._thread = started_thread("orders-writer")
        self._checkpoints = Checkpoints(path, self._turn)
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Job[Any]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, call: Callable[[OrderBook], T]) -> Job[T]:
        """Queue `call`; return the job, which is done when its result is on disk."""
        job = Job(call)
        self._jobs.append(job)
        if self._idle.is_set():
            self._idle.clear()
            self._write()
        return job

    async def close(self) -> None:
        """Commit what is queued and close the database."""
        await self._idle.wait()
        self._thread.shutdown()
        self._checkpoints.close()
        # Of processes that close at the same moment, each would leave the WAL for the other to clear away.
        with suppress(TimeoutError):
            self._turn.wait(self._turn.take)
        self._database.close()
        self._turn.close()

    def _write(self) -> None:
        while self._jobs and time.monotonic() > self._jobs[0].begun + BUSY_TIMEOUT_S:
            self._jobs.popleft().expire()
        group = [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_GROUP))]
        try:
            begun = self._begin()
            if begun:
                self._run(group)
            self._thread.submit(self._wait, group, begun)
        except Exception as error:
            self._give_up(group, error)
            self._loop.call_soon(self._written, group)

    def _wait(self, group: list[Job[Any]], begun: bool) -> None:
        """On the thread: wait for the turn, if need be, and for the disk."""
        try:
            if not begun:
                self._turn.wait(self._begin)
                self._run(group)
            self._database.commit()
        except Exception as error:
            self._give_up(group, error)
        else:
            self._checkpoints.after_commit(self._database)
            self._turn.pass_on()
        finally:
            self._loop.call_soon_threadsafe(self._written, group)

    def _written(self, group: list[Job[Any]]) -> None:
        # The next group first: the disk works on it while these are answered.
        try:
            if self._jobs:
                self._write()
            else:
                self._idle.set()
        finally:
            for job in group:
                job.resolve()

    def _begin(self) -> bool:
        """Begin a transaction, if no other process is writing; return whether it has begun."""
        if not self._turn.take():
            return False
        try:
            self._database.begin("IMMEDIATE")
        except BaseException as error:
            self._turn.pass_on()
            # By a program that knows nothing of turns.
            if "database is locked" in str(error):
                return False
            raise
        return True

    def _run(self, group: list[Job[Any]]) -> None:
        """Run calls in a transaction that has begun; one that fails leaves nothing in it."""
        while not self._all_succeed([job for job in group if job.error is None]):
            self._database.rollback()
            self._database.begin("IMMEDIATE")

    def _all_succeed(self, group: list[Job[Any]]) -> bool:
        for job in group:
            try:
                job.result = job.call(self._book)
            except Exception as error:
                job.error = error
                return False
        return True

    def _give_up(self, group: list[Job[Any]], error: Exception) -> None:
        """Undo a transaction that cannot be committed, if it has begun."""
        for job in group:
            job.error = job.error or error
        with suppress(PeeweeException):
            if self._database.connection().in_transaction:
                self._database.rollback()
        self._turn.pass_on()


class Checkpoints:
    """Moves what was committed from the WAL to the database itself, beside the writes.

    SQLite would do it at the end of some commit, and let everybody who writes wait for that. There is one checkpoint at
    a time, of all processes, and it begins when there is something to move: before version 3.51.3, SQLite can lose what
    is committed while a checkpoint looks at a WAL in which there is nothing left (https://sqlite.org/wal.html).
    """

    def __init__(self, path: str, turn: "Turn") -> None:
        self._turn = turn
        self._database = database_of(path, thread_safe=False, check_same_thread=False)
        self._database.connect()
        self._thread = started_thread("orders-checkpoint")
        self._running = threading.Event()
        self._changes = self._moved = 0
        self._behind = False

    def after_commit(self, database: SqliteDatabase) -> None:
        """Begin a checkpoint, if there is enough to do: on the thread of a commit, before the turn is passed on.

        If writes are faster than checkpoints, this one is done by the writer itself, for without a pause between two
        commits the WAL would grow for ever.
        """
        changes = database.connection().total_changes
        wrote, self._changes = changes > self._changes, changes
        enough = changes >= self._moved + CHECKPOINT_AFTER
        if not wrote or not enough or self._running.is_set() or not self._turn.take_checkpoint():
            return
        self._moved = changes
        self._running.set()
        if self._behind:
            self._checkpoint(database)
        else:
            self._thread.submit(self._checkpoint, self._database)

    def close(self) -> None:
        """End the checkpoint that is under way."""
        self._thread.shutdown()
        self._database.close()

    def _checkpoint(self, database: SqliteDatabase) -> None:
        try:
            busy, frames, moved = database.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not busy:
                # What somebody who reads for long has held up is too much to be moved while others wait.
                self._behind = frames > MAX_WAL_FRAMES > frames - moved
        except Exception as error:
            # A full disk, say. What is in the WAL is safe there.
            logger.warning("the WAL cannot be moved to the database: %s", error)
        finally:
            self._turn.end_checkpoint()
            self._running.clear()


class Turn:
    """A lock that processes take in turns.

    SQLite alone would keep their transactions apart, but it waits by sleeping longer and longer, which starves one
    of two busy processes. This lock is tried again soon, and the kernel frees that of a process that was killed. It is
    two locks, each on a byte of the file: whoever waits holds the first, so that who has just had the second cannot
    have it again before them.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "ab")  # noqa: SIM115

    def take(self) -> bool:
        """Take the lock if it is free, or else be the next one, if nobody else is; return whether it was free."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, NEXT)
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, NOW)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, NEXT)
        return True

    def pass_on(self) -> None:
        """Give the lock to the next one."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, NOW)

    def take_checkpoint(self) -> bool:
        """Take the lock of whoever does a checkpoint, if it is free; return whether it was."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, CHECKPOINT)
        except OSError:
            return False
        return True

    def end_checkpoint(self) -> None:
        """Give that lock back."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, CHECKPOINT)

    def wait(self, attempt: Callable[[], bool]) -> None:
        """Wait until an attempt to take the lock succeeds. Raises TimeoutError."""
        try:
            _poll(attempt, "writing")
        except TimeoutError:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, NEXT)
            raise

    def close(self) -> None:
        """Close the file, which stays for the other processes."""
        self._file.close()


def _poll(attempt: Callable[[], bool], what: str) -> None:
    """Try until an attempt succeeds. Raises TimeoutError, which says what another process does all the while."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while not attempt():
        if time.monotonic() > deadline:
            raise TimeoutError(f"another process has been {what} for {BUSY_TIMEOUT_S} s")
        time.sleep(TURN_POLL_S)


def create_schema(database: SqliteDatabase) -> None:
    """Create the table in a database that is empty; raise CannotOpenDatabase if it is somebody else's."""
    with database.atomic("IMMEDIATE"):
        if _is_empty(database.connection()):
            create_tables(database)
            database.pragma("application_id", APPLICATION_ID)
            database.pragma("user_version", SCHEMA_VERSION)
        elif lacking := missing_parts(database):
            raise CannotOpenDatabase(f"it lacks {', '.join(lacking)}")


def _refuse_unusable(path: str) -> None:
    """Look where the file is or is to be; raise CannotOpenDatabase if it cannot be used there."""
    file = Path(path)
    if file.is_dir():
        raise CannotOpenDatabase("it is a directory")
    if not file.parent.is_dir():
        raise CannotOpenDatabase(f"there is no directory {file.parent}")
    if file.exists() and not file.is_file():
        raise CannotOpenDatabase("it is not a file")
    # SQLite opens what it cannot write to for reading, and says so only at the first write.
    for needed in (file.parent, file):
        if needed.exists() and not os.access(needed, os.R_OK | os.W_OK):
            raise CannotOpenDatabase(f"{needed} cannot be read and written")


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Let one of several processes that prepare a file in at a time.

    Between the steps of another, it would take the file for another program's, or be refused the change to WAL mode,
    for which SQLite does not wait. The lock is on the directory, because there may be no file, and none may be left
    beside one that is not ours. Raises TimeoutError.
    """
    directory = os.open(Path(path).resolve().parent, os.O_RDONLY | os.O_DIRECTORY)

    def lock() -> bool:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        _poll(lock, "preparing a database beside it")
        yield
    finally:
        # Closing is not enough if the process was forked meanwhile.
        fcntl.flock(directory, fcntl.LOCK_UN)
        os.close(directory)


def _refuse_foreign(path: str) -> None:
    """Look at the file without touching it; raise CannotOpenDatabase unless it is ours, or empty, or not there."""
    if Path(path).exists():
        # Even a read-only connection may leave files beside the database, an immutable one does not.
        with closing(sqlite3.connect(f"file:{quote(path)}?immutable=1", uri=True)) as connection:
            # After a crash, the first page may count pages that are not in the file: a checkpoint or the creation was
            # cut short. A connection that looks at the WAL or the journal mends that; this one has to pass over it.
            connection.execute("PRAGMA writable_schema = ON")
            _is_empty(connection)


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether there is nothing in the database; raise CannotOpenDatabase if what is there is not ours."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
            return True
        raise CannotOpenDatabase("it belongs to another program; choose another file")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise CannotOpenDatabase(f"it has schema version {version}, this release knows {SCHEMA_VERSION} alone")
    return False
