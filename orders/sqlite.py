"""Orders in an SQLite file, or in memory: for one host, and as many processes as it has cores.

A look at the orders takes microseconds, so it is done at once, on the event loop. Sets of calls that write are done on
a thread, which waits for other processes that write, and for the disk.
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

from orders.lifecycle import Orders, read, write
from orders.models import COLUMNS, SCHEMA_VERSION, CannotOpenDatabase, create_tables, missing_parts
from orders.queries import Dialect, Queries, Rows, Statement, placeholder
from orders.sets import ANSWER_TIMEOUT_S, Collision, Sets

# "ORDS" in the header of the file (PRAGMA application_id) tells our databases from other programs'.
APPLICATION_ID = 0x4F524453

PREPARE_TIMEOUT_S = 10.0
BUSY_TIMEOUT_S = 0.2
POLL_S = 0.005
MEMORY = ":memory:"

DIALECT = Dialect(
    database=SqliteDatabase(None),
    begin="BEGIN IMMEDIATE",
    one_of=lambda column, name: column.in_(Select([fn.json_each(placeholder(name, json.dumps))], [SQL("value")])),
    later_of=fn.MAX,
    new_orders=(
        fn.json_each(placeholder("rows", json.dumps)),
        [SQL(f"json_extract(value, '$.{column}')") for column in COLUMNS],
    ),
)


def open_orders(path: str) -> Orders:
    """Open the database for the running event loop. A file must have been prepared. Raises CannotOpenDatabase."""
    try:
        database = database_of(path)
        reads = Sets(read, Session(database), threads=False)
        if path == MEMORY:
            create_schema(database)
            return Orders(Session.queries, reads, Sets(write, Session(database), threads=False))
        # A short wait for other programs: meanwhile nobody else could write, and calls would expire that are run later.
        writer = Session(database_of(path, wait_s=BUSY_TIMEOUT_S), Lock(path))
        return Orders(Session.queries, reads, Sets(write, writer))
    except (PeeweeException, OSError) as error:
        raise CannotOpenDatabase(f"cannot open database {path}: {error}") from error


def database_of(path: str, wait_s: float = ANSWER_TIMEOUT_S) -> SqliteDatabase:
    """Open the database at a path. Each commit waits for the disk, and for `wait_s` seconds for other programs."""
    database = SqliteDatabase(
        path,
        pragmas={"synchronous": "full"},
        timeout=wait_s,
        # It is opened on one thread and used on another.
        thread_safe=False,
        check_same_thread=False,
        # Times are text, which SQLite has no better type for.
        field_types={"TIMESTAMPTZ": "TEXT"},
    )
    database.connect()
    return database


class Session:
    """A connection to a file, or to a database in memory."""

    queries = Queries(DIALECT)

    def __init__(self, database: SqliteDatabase, lock: "Lock | None" = None) -> None:
        """Use an open database; what writes needs a lock."""
        self._database = database
        self._connection: sqlite3.Connection = database.connection()
        self._lock = lock

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the lock, and undo what fails. Raises Collision or the error itself."""
        with self._lock or nullcontext():
            try:
                yield
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:  # By a program that knows nothing of the lock.
                    raise Collision from error
                raise
            finally:
                if self._connection.in_transaction:
                    self._connection.rollback()

    def trip(self, *statements: Statement | None) -> list[Rows]:
        """Execute statements; return the rows of each.

        Now and then, a COMMIT moves what is in the WAL to the database itself. We have the lock then, so nobody else
        does the same: before version 3.51.3, two at a time can lose what is committed (https://sqlite.org/wal.html).
        """
        return [self._connection.execute(*statement).fetchall() if statement else [] for statement in statements]

    def give_up(self) -> None:
        """Do nothing: the lock is waited for however long another process keeps it."""

    def close(self) -> None:
        """Close the connection; the last one of all clears the WAL away."""
        with self._lock or nullcontext():
            self._database.close()
        if self._lock:
            self._lock.close()


class Lock:
    """The right to write, which processes have in turns; the kernel takes it from a process that has died.

    SQLite alone would keep their transactions apart, but it waits by sleeping longer and longer, which starves one
    of two busy processes. Here, whoever waits stands in the door: who has just left the room cannot pass them.
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
        """Close the files, which stay for the other processes."""
        os.close(self._door)
        os.close(self._room)


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


def create_schema(database: SqliteDatabase) -> None:
    """Create the table in a database that is empty; raise CannotOpenDatabase if it is somebody else's."""
    with database.atomic():
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
