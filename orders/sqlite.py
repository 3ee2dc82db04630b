"""Orders in an SQLite file, or in memory: for one host, and as many processes as it has cores.

Reads take microseconds, so they run on the event loop itself. Writes wait for the disk, so they go to one
writer thread, which puts all the calls that are waiting into one transaction and answers them after its commit:
one wait for the disk serves many clients.
"""

import asyncio
import concurrent.futures
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from peewee import PeeweeException, SqliteDatabase

from orders.book import OrderBook
from orders.models import SCHEMA_VERSION, create_tables, missing_parts
from orders.store import CannotOpenDatabase, Job, Store

T = TypeVar("T")

# "ORDS" in the header of the file (PRAGMA application_id) tells our databases from other programs'.
APPLICATION_ID = 0x4F524453

BUSY_TIMEOUT_S = 10.0
TURN_POLL_S = 0.0002
MAX_GROUP = 500
MEMORY = ":memory:"


def prepare(path: str) -> None:
    """Create the file if there is none, and see that it is ours and can be written to.

    Raises CannotOpenDatabase, having changed nothing that is not ours.
    """
    if path == MEMORY:
        return
    try:
        _refuse_unusable(path)
        # Not in WAL mode yet: what says that the file is ours must be in the file itself from the start.
        database = database_of(path, synchronous="full")
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


def database_of(path: str, **pragmas: str) -> SqliteDatabase:
    """Return the database at a path, whose connections are set up with `pragmas`."""
    # Times are text, which SQLite has no better type for.
    return SqliteDatabase(path, pragmas=pragmas, timeout=BUSY_TIMEOUT_S, field_types={"TIMESTAMPTZ": "TEXT"})


class WriteNeeded(Exception):
    """A call that was tried on what is committed has to write."""


def _refuse_to_write() -> None:
    raise WriteNeeded


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

    def close(self) -> None:
        """Close, and so forget, the database."""
        self._database.close()


class SqliteStore:
    """An SQLite file: reads on the event loop, writes in groups on a thread of their own."""

    def __init__(self, path: str) -> None:
        self._database = database_of(path, journal_mode="wal", synchronous="full")
        self._database.connect()
        self._reader = OrderBook(self._database, before_write=_refuse_to_write)
        self._turn = Turn(f"{path}-lock")
        self._writer = GroupWriter(self._database, self._turn)

    def run(self, call: Callable[[OrderBook], T]) -> "T | asyncio.Future[T]":
        """Try `call` on what is committed; if it has to write, hand it to the writer and return a future."""
        try:
            return call(self._reader)
        except WriteNeeded:
            return self._writer.submit(call)

    def close(self) -> None:
        """Commit what was submitted, then close the database."""
        self._writer.close()
        # Of processes that close at the same moment, each would leave the WAL for the other to clear away.
        try:
            with self._turn:
                self._database.close()
        except TimeoutError:
            self._database.close()
        self._turn.close()


class GroupWriter:
    """A thread that runs calls in the order in which they came, many in one transaction (group commit)."""

    def __init__(self, database: SqliteDatabase, turn: "Turn") -> None:
        self._database = database
        self._book = OrderBook(database)
        self._turn = turn
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._work, name="orders-writer", daemon=True)
        self._thread.start()
        self._opened.result()

    def submit(self, call: Callable[[OrderBook], T]) -> "asyncio.Future[T]":
        """Queue `call`; return the future of its result, done when the result is on disk."""
        job = Job(call, self._loop.create_future())
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Commit what is queued and stop the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._database.connect()
        except Exception as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        with closing(self._database):
            while (job := self._jobs.get()) is not None:
                group = [job]
                while len(group) < MAX_GROUP and not self._jobs.empty():
                    job = self._jobs.get()
                    if job is None:
                        self._jobs.put(None)
                        break
                    group.append(job)
                self._commit(group)
                self._loop.call_soon_threadsafe(_resolve, group)

    def _commit(self, group: list[Job[Any]]) -> None:
        begun = False
        try:
            with self._turn, self._database.atomic("IMMEDIATE"):
                begun = True
                for job in group:
                    job.result = job.call(self._book)
        except Exception as error:
            if begun and len(group) > 1:
                # One bad call must not spoil the others: give each a transaction of its own.
                for job in group:
                    self._commit([job])
            else:
                for job in group:
                    job.error = error


class Turn:
    """A lock that processes take in turns.

    SQLite alone would keep their transactions apart, but it waits by sleeping longer and longer, which starves one
    of two busy processes. This lock is tried again soon, and the kernel frees that of a process that was killed.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "ab")  # noqa: SIM115

    def __enter__(self) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has been writing for {BUSY_TIMEOUT_S} s") from None
            time.sleep(TURN_POLL_S)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which stays for the other processes."""
        self._file.close()


def _resolve(group: list[Job[Any]]) -> None:
    for job in group:
        job.resolve()


def create_schema(database: SqliteDatabase) -> None:
    """Create the table in a database that is empty; raise CannotOpenDatabase if it is somebody else's."""
    # IMMEDIATE lets one of several starting processes in at a time.
    with database.atomic("IMMEDIATE"):
        if _is_empty(database.connection()):
            create_tables(database)
            database.pragma("application_id", APPLICATION_ID)
            database.pragma("user_version", SCHEMA_VERSION)
        elif lacking := missing_parts(database):
            raise CannotOpenDatabase(f"it lacks {', '.join(lacking)}")


def _refuse_unusable(path: str) -> None:
    """Look at the file without touching it; raise CannotOpenDatabase unless it is ours, or empty, or can be made."""
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
    if file.exists():
        # Even a read-only connection may leave files beside the database, an immutable one does not.
        with closing(sqlite3.connect(f"file:{quote(path)}?immutable=1", uri=True)) as connection:
            _is_empty(connection)


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether there is nothing in the database; raise CannotOpenDatabase if what is there is not ours."""
    if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
        return True
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise CannotOpenDatabase("it belongs to another program; choose another file")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise CannotOpenDatabase(f"it has schema version {version}, this release knows {SCHEMA_VERSION} alone")
    return False
