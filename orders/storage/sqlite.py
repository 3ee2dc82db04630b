"""Keeps orders in an SQLite file or in memory: for one host, and as many processes as it has cores.

Reads take microseconds, so they run on the event loop. Writes run on a thread: they wait for other processes and the
disk.

A commit appends to the WAL. A checkpoint moves the contents of the WAL to the database file, and needs room there. A
commit reserves this room, so a checkpoint makes room even if the WAL has filled the disk.

The file may be renamed, removed or replaced while it is open. Then all calls fail until it is back.
"""

import errno
import fcntl
import json
import logging
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from peewee import SQL, PeeweeException, Select, SqliteDatabase, fn

from orders.storage.models import COLUMNS, SCHEMA_VERSION, CannotOpenDatabase, create_tables, missing_parts
from orders.storage.queries import Dialect, Queries, Rows, Statement, parameter
from orders.storage.sets import Collision, DatabaseUnusable

logger = logging.getLogger("orders")

# "ORDS" in the header of the file (PRAGMA application_id) marks a database as ours.
APPLICATION_ID = 0x4F524453
# https://sqlite.org/fileformat2.html#the_database_header
HEADER = struct.Struct(">16s44xI4xI")
MAGIC = b"SQLite format 3\0"

PREPARE_TIMEOUT_S = 10.0
BUSY_TIMEOUT_S = 0.2
POLL_S = 0.005
MEMORY = ":memory:"
# A WAL of 1,000 pages is moved to the database file after the next commit. It is larger if a reader was in the way, or
# after a very large set.
MAX_WAL_BYTES = 8 * 1024 * 1024
# The disk is full if it has less room than this. A set of one call needs less.
MIN_ROOM_BYTES = 256 * 1024
DISK_FULL = "the disk is full"
FILE_GONE = "the database file is gone, or another file is in its place"
DISK_ERRORS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Identity = tuple[int, int]
# What `prepare` has found at each path. A worker that starts later opens the same file, or none.
_prepared: dict[str, Identity] = {}

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

    Call `prepare` on a file first: this opens the file that it has found, or none. Raises CannotOpenDatabase.
    """
    try:
        if path == MEMORY:
            database = connect(MEMORY)
            _create_schema(database)
            return [Session(database)], Session(database)
        file = DatabaseFile(path)
        reader, writer = (connect(_uri(path, "mode=rw")) for _ in range(2))
        return [Session(reader, file)], Session(writer, file, Lock(path))
    except (CannotOpenDatabase, PeeweeException, OSError) as error:
        raise CannotOpenDatabase(f"cannot open database {path}: {error}") from error


def connect(address: str) -> SqliteDatabase:
    """Open a database. `address` is a URI of SQLite or `:memory:`. Each commit waits for the disk."""
    database = SqliteDatabase(
        address,
        uri=True,
        pragmas={"synchronous": "full"},
        # One thread opens the connection and another uses it.
        thread_safe=False,
        check_same_thread=False,
        # SQLite has no type for times.
        field_types={"TIMESTAMPTZ": "TEXT"},
    )
    database.connect()
    return database


def check_room(path: str) -> None:
    """Raise DatabaseUnusable if the disk is full."""
    # The contents of the WAL can be moved to the database file, which has room for them.
    if path != MEMORY and _room(path) + _size(_wal(path)) < MIN_ROOM_BYTES:
        raise DatabaseUnusable(DISK_FULL)


class DatabaseFile:
    """The file of a database. It may be renamed, removed or replaced while it is open."""

    def __init__(self, path: str) -> None:
        """Open the file. Raises CannotOpenDatabase if it is not the one that `prepare` has found, and OSError."""
        self.path = path
        self.wal = _wal(path)
        self._file = os.open(path, os.O_RDWR)
        self._identity = _identity(os.fstat(self._file))
        self._was_there = True
        if self._identity is None or self._identity != _prepared.get(path, self._identity):
            self.close()
            raise CannotOpenDatabase("it has been replaced since the server started")

    def is_there(self) -> bool:
        """Return whether the path still leads to the file. Log when this changes."""
        try:
            is_there = _identity(os.stat(self.path)) == self._identity
        except OSError:
            is_there = False
        if is_there != self._was_there:
            self._was_there = is_there
            if is_there:
                logger.warning("the database %s is back", self.path)
            else:
                logger.error(
                    "the database %s is gone, or another file is in its place: requests fail until it is back",
                    self.path,
                )
        return is_there

    def reserve(self, size: int) -> None:
        """Make the file at least as large as `size` bytes. Raises OSError if there is no room."""
        missing = size - os.fstat(self._file).st_size
        if missing > 0:
            try:
                os.posix_fallocate(self._file, size - missing, missing)
            except OSError as error:
                # Not every file system can do this.
                if error.errno in NO_ROOM:
                    raise

    def close(self) -> None:
        """Close the file. This drops the locks of all connections of the process to the file, so close them first."""
        os.close(self._file)


class Session:
    """A connection to a file or to a database in memory."""

    queries = Queries(DIALECT)

    def __init__(self, database: SqliteDatabase, file: DatabaseFile | None = None, lock: "Lock | None" = None) -> None:
        """Use an open database. A session that writes to a file needs a lock."""
        self._database = database
        self._connection: sqlite3.Connection = database.connection()
        self._file = file
        self._lock = lock
        self.waits = lock is not None
        self._max_wal_bytes = MAX_WAL_BYTES
        # Whether the last set failed because of the disk.
        self._has_failed = False
        # Whether a file that is gone has all orders, also those that were in the WAL.
        self._is_complete = False
        (self._page_size,) = self._connection.execute("PRAGMA page_size").fetchone()
        # A reader must not hold up the event loop. While a writer waits for other programs, it has the lock, and calls
        # that expire would still run afterwards.
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000 if lock else 0:.0f}")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the lock, and roll back what fails. Raises Collision, DatabaseUnusable or the error itself."""
        with self._lock or nullcontext():
            self._refuse_lost_file()
            if self._has_failed and self._lock:
                self._make_room()
            try:
                try:
                    yield
                finally:
                    if self._connection.in_transaction:
                        self._connection.rollback()
            except (sqlite3.OperationalError, OSError) as error:
                failure = self._meaning(error)
                if failure is None:
                    raise
                raise failure from error
            if self._lock:
                self._limit_wal()

    def trip(self, *statements: Statement | None) -> list[Rows]:
        """Execute statements; return the rows of each.

        Some commits also move the contents of the WAL to the database file. They hold the lock, so no two processes do
        this at once. Before SQLite 3.51.3, that could lose committed data (https://sqlite.org/wal.html).
        """
        results = []
        for statement in statements:
            if statement is self.queries.commit and self._file:
                (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
                self._file.reserve(pages * self._page_size)
            results.append(self._connection.execute(*statement).fetchall() if statement else [])
        return results

    def give_up(self) -> None:
        """Do nothing: a session waits for the lock however long another process holds it."""

    def close(self) -> None:
        """Close the connection. The last connection to close deletes the WAL. The reader closes last."""
        with self._lock or nullcontext():
            with suppress(DatabaseUnusable):
                self._refuse_lost_file()
            self._database.close()
        if self._lock:
            self._lock.close()
        elif self._file:
            self._file.close()

    def _refuse_lost_file(self) -> None:
        """Raise DatabaseUnusable if the file is gone. First move all answered orders from the WAL to the file.

        The WAL stays behind when the file is renamed. After this, another server may use the path, and the WAL.
        """
        if self._file is None or self._file.is_there():
            self._is_complete = False
            return
        if self._lock and not self._is_complete:
            self._is_complete = self._empty_wal()
        raise DatabaseUnusable(FILE_GONE)

    def _make_room(self) -> None:
        """Empty the WAL. Raise DatabaseUnusable if the disk then has no room for more than a few calls."""
        assert self._file
        self._empty_wal()
        if _room(self._file.path) < MIN_ROOM_BYTES:
            raise DatabaseUnusable(DISK_FULL)
        self._has_failed = False

    def _meaning(self, error: sqlite3.OperationalError | OSError) -> Exception | None:
        """Return what an error means for the calls of the set, or None if it means nothing special."""
        if isinstance(error, OSError):
            code = sqlite3.SQLITE_FULL if error.errno in NO_ROOM else sqlite3.SQLITE_ERROR
        else:
            code = error.sqlite_errorcode & 0xFF
        if code == sqlite3.SQLITE_BUSY:  # By a program that does not take our lock.
            return Collision()
        if code not in DISK_ERRORS:
            return None
        self._has_failed = True
        return DatabaseUnusable(DISK_FULL if code == sqlite3.SQLITE_FULL else str(error))

    def _empty_wal(self) -> bool:
        """Move the contents of the WAL to the database file. Return False if a reader is in the way, or it fails."""
        with suppress(sqlite3.Error):
            is_busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not is_busy
        return False

    def _limit_wal(self) -> None:
        """Empty a WAL that is too large. If a reader is in the way, try again when the WAL is twice as large."""
        assert self._file
        size = _size(self._file.wal)
        if size > self._max_wal_bytes:
            self._max_wal_bytes = MAX_WAL_BYTES if self._empty_wal() else 2 * size


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
            database = connect(_uri(path, "mode=rwc"))
            with closing(database):
                _create_schema(database)
                if (mode := database.pragma("journal_mode", "wal")) != "wal":
                    raise CannotOpenDatabase(f"its journal mode is {mode} and cannot be made wal")
                if identity := _identity(os.stat(path)):
                    _prepared[path] = identity
    except (CannotOpenDatabase, PeeweeException, sqlite3.Error, OSError) as error:
        raise CannotOpenDatabase(f"cannot open database {path}: {error}") from error


def _create_schema(database: SqliteDatabase) -> None:
    """Create the table in an empty database. Raises CannotOpenDatabase if an existing table lacks a part."""
    with database.atomic():
        if database.pragma("application_id") != APPLICATION_ID:
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
    """Raise CannotOpenDatabase unless the file is ours, empty or missing. Never changes the file.

    This reads the header itself: SQLite takes a file of less than a page for an empty database, and repairs or removes
    the files beside a database.
    """
    file = Path(path)
    header = b""
    if file.exists():
        with file.open("rb") as stream:
            header = stream.read(HEADER.size)
    if not header:
        # SQLite would remove this WAL.
        if _size(_wal(path)):
            raise CannotOpenDatabase(
                f"it is gone, but {_wal(path)} has orders of it; move the database back, or remove that file"
            )
        return
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise CannotOpenDatabase("the file is not a database; choose another file")
    _, version, application_id = HEADER.unpack(header)
    if application_id != APPLICATION_ID:
        raise CannotOpenDatabase("it belongs to another program; choose another file")
    if version != SCHEMA_VERSION:
        raise CannotOpenDatabase(f"it has schema version {version}, this release knows {SCHEMA_VERSION} alone")


def _uri(path: str, options: str) -> str:
    """Return the URI of a file for SQLite."""
    return f"{Path(path).absolute().as_uri()}?{options}"


def _wal(path: str) -> str:
    """Return the path of a database's WAL."""
    return f"{Path(path).resolve()}-wal"


def _room(path: str) -> int:
    """Return how many bytes are free on the disk of a file."""
    disk = os.statvfs(Path(path).resolve().parent)
    # A disk without a limit, for example a tmpfs of size 0, has no blocks.
    return disk.f_bfree * disk.f_frsize if disk.f_blocks else sys.maxsize


def _size(path: str) -> int:
    """Return the size of a file in bytes, or 0 if it does not exist."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _identity(file: os.stat_result) -> Identity | None:
    """Return what tells a file from all others that exist, or None if it has no contents."""
    return (file.st_dev, file.st_ino) if file.st_size else None
