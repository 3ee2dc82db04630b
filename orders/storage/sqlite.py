"""Keeps orders in an SQLite file or in memory: for one host, and as many processes as it has cores.

Reads take microseconds, so they run on the event loop. Writes run on a thread: they wait for other processes and the
disk.
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from urllib.parse import quote

from peewee import SQL, PeeweeException, Select, SqliteDatabase, fn

from orders.storage.models import COLUMNS, SCHEMA_VERSION, CannotOpenDatabase, create_tables, missing_parts
from orders.storage.queries import Dialect, Queries, Rows, Statement, parameter
from orders.storage.sets import ANSWER_TIMEOUT_S, Collision

# "ORDS" in the header of the file (PRAGMA application_id) marks a database as ours.
APPLICATION_ID = 0x4F524453

PREPARE_TIMEOUT_S = 10.0
BUSY_TIMEOUT_S = 0.2
POLL_S = 0.005
MEMORY = ":memory:"

DIALECT = Dialect(
    database=SqliteDatabase(None),
    begin="BEGIN IMMEDIATE",
    in_list=lambda column, name: column.in_(Select([fn.json_each(parameter(name, json.dumps))], [SQL("value")])),
    later_of=fn.MAX,
    new_orders=Select(
        [fn.json_each(parameter("rows", json.dumps))],
        [SQL(f"json_extract(value, '$.{column}')") for column in COLUMNS],
    ),
)


def parse(url: str) -> str:
    """Return the path in a URL, or `:memory:`. Raises ValueError, with a message for the user, if there is none."""
    path = url.removeprefix("sqlite://")
    if not path.startswith("/") or path in ("/", "//") or "\0" in path:
        raise ValueError(f"{url!r} names no file; write sqlite:///relative.db or sqlite:////absolute.db")
    if "?" in path:
        raise ValueError(f"{url!r} has options, which an SQLite URL does not take")
    return path[1:]


def open_sessions(path: str, connections: int) -> tuple[list["Session"], "Session"]:
    """Return a list with the session that reads, and the session that writes. `connections` is not used.

    Call `prepare` on a file first. Raises CannotOpenDatabase.
    """
    try:
        database = connect(path)
        reader = Session(database)
        if path == MEMORY:
            _create_schema(database)
            return [reader], Session(database)
        # The writer waits only briefly for other programs. It holds our lock meanwhile, and calls that expire during
        # the wait would still run.
        return [reader], Session(connect(path, wait_s=BUSY_TIMEOUT_S), Lock(path))
    except (PeeweeException, OSError) as error:
        raise CannotOpenDatabase(f"cannot open database {path}: {error}") from error


def connect(path: str, wait_s: float = ANSWER_TIMEOUT_S) -> SqliteDatabase:
    """Open the database at a path.

    Each commit waits for the disk. Statements wait up to `wait_s` seconds for a lock that another program holds.
    """
    database = SqliteDatabase(
        path,
        pragmas={"synchronous": "full"},
        timeout=wait_s,
        # One thread opens the connection and another uses it.
        thread_safe=False,
        check_same_thread=False,
        # SQLite has no type for times.
        field_types={"TIMESTAMPTZ": "TEXT"},
    )
    database.connect()
    return database


class Session:
    """A connection to a file or to a database in memory."""

    queries = Queries(DIALECT)

    def __init__(self, database: SqliteDatabase, lock: "Lock | None" = None) -> None:
        """Use an open database. A session that writes to a file needs a lock."""
        self._database = database
        self._connection: sqlite3.Connection = database.connection()
        self._lock = lock
        self.waits = lock is not None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the lock, and roll back what fails. Raises Collision or the error itself."""
        with self._lock or nullcontext():
            try:
                yield
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:  # By a program that does not take our lock.
                    raise Collision from error
                raise
            finally:
                if self._connection.in_transaction:
                    self._connection.rollback()

    def trip(self, *statements: Statement | None) -> list[Rows]:
        """Execute statements; return the rows of each.

        Some commits also move the contents of the WAL to the database file. They hold the lock, so no two processes do
        this at once. Before SQLite 3.51.3, that could lose committed data (https://sqlite.org/wal.html).
        """
        return [self._connection.execute(*statement).fetchall() if statement else [] for statement in statements]

    def give_up(self) -> None:
        """Do nothing: a session waits for the lock however long another process holds it."""

    def close(self) -> None:
        """Close the connection. The last connection to close deletes the WAL."""
        with self._lock or nullcontext():
            self._database.close()
        if self._lock:
            self._lock.close()


class Lock:
    """A lock that processes take in turn before they write. The kernel frees the lock of a process that has died.

    SQLite's own locks would be enough to keep transactions apart. But SQLite waits by sleeping longer and longer, so
    one of two busy processes would starve. Here there are two locks, the door and the room. A process that waits for
    the room holds the door, so a process that has just left cannot enter again first.
    """

    def __init__(self, path: str) -> None:
        self._door, self._room = (os.open(f"{path}-{name}", os.O_RDWR | os.O_CREAT) for name in ("door", "lock"))

    def __enter__(self) -> None:
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock files. They stay on the disk for the other processes."""
        os.close(self._door)
        os.close(self._room)


def prepare(path: str) -> None:
    """Create the file if there is none. Check that it is ours and can be written to.

    A file that is not ours never changes. Raises CannotOpenDatabase.
    """
    if path == MEMORY:
        return
    try:
        _refuse_unusable(path)
        with _preparation_lock(path):
            _refuse_foreign(path)
            # WAL mode comes last: the mark that the file is ours must be in the file itself from the start.
            database = connect(path)
            with closing(database):
                _create_schema(database)
                if (mode := database.pragma("journal_mode", "wal")) != "wal":
                    raise CannotOpenDatabase(f"its journal mode is {mode} and cannot be made wal")
    except (CannotOpenDatabase, PeeweeException, sqlite3.Error, OSError) as error:
        raise CannotOpenDatabase(f"cannot open database {path}: {error}") from error


def _create_schema(database: SqliteDatabase) -> None:
    """Create the table in an empty database. Raises CannotOpenDatabase if the database is not ours or lacks a part."""
    with database.atomic():
        if _is_empty(database.connection()):
            create_tables(database)
            database.pragma("application_id", APPLICATION_ID)
            database.pragma("user_version", SCHEMA_VERSION)
        elif lacking := missing_parts(database):
            raise CannotOpenDatabase(f"it lacks {', '.join(lacking)}")


def _refuse_unusable(path: str) -> None:
    """Raise CannotOpenDatabase if the path cannot hold a database that can be read and written."""
    file = Path(path)
    if file.is_dir():
        raise CannotOpenDatabase("it is a directory")
    if not file.parent.is_dir():
        raise CannotOpenDatabase(f"there is no directory {file.parent}")
    if file.exists() and not file.is_file():
        raise CannotOpenDatabase("it is not a file")
    # SQLite opens a file that it cannot write to for reading, and fails only at the first write.
    for needed in (file.parent, file):
        if needed.exists() and not os.access(needed, os.R_OK | os.W_OK):
            raise CannotOpenDatabase(f"{needed} cannot be read and written")


@contextmanager
def _preparation_lock(path: str) -> Iterator[None]:
    """Keep other processes from preparing a file in the same directory. Raises TimeoutError.

    Without this, a process could see the file between two steps of another process. It would take the file for
    another program's. Or it could not change to WAL mode, because SQLite does not wait for that. The lock is on the
    directory, because the file may not exist yet, and we must leave no lock file beside a file that is not ours.
    """
    directory = os.open(Path(path).resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + PREPARE_TIMEOUT_S
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has been preparing a database beside it for {PREPARE_TIMEOUT_S} s")
            time.sleep(POLL_S)
        yield
    finally:
        # If the process has forked in the meantime, closing the directory does not free the lock.
        fcntl.flock(directory, fcntl.LOCK_UN)
        os.close(directory)


def _refuse_foreign(path: str) -> None:
    """Raise CannotOpenDatabase unless the file is ours, empty or missing. Never changes the file."""
    if Path(path).exists():
        # Even a read-only connection may leave files beside the database. An immutable connection does not.
        with closing(sqlite3.connect(f"file:{quote(path)}?immutable=1", uri=True)) as connection:
            # If a crash cut short a checkpoint or the creation, the first page may count pages that are not in the
            # file. A connection that reads the WAL or the journal repairs that. An immutable one has to ignore it.
            connection.execute("PRAGMA writable_schema = ON")
            _is_empty(connection)


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether the database is empty. Raises CannotOpenDatabase if it has contents that are not ours."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
            return True
        raise CannotOpenDatabase("it belongs to another program; choose another file")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise CannotOpenDatabase(f"it has schema version {version}, this release knows {SCHEMA_VERSION} alone")
    return False
