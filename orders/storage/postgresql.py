"""Keeps orders in PostgreSQL: for many processes on many hosts.

Each process has threads for reads and one thread for writes. Each thread has a connection of its own. So when writes
have to wait, for example because a standby is lost, executors can still poll.

If a connection is lost before its commit was sent, a new connection replaces it and the set is tried again. If it is
lost during the commit, nobody knows whether the commit took place. The calls fail, and a client that repeats its
request finds out. A commit may take any time: its calls fail when their time is up.
"""

import json
import logging
import math
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from threading import Lock
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from peewee import SQL, PeeweeException, PostgresqlDatabase, Select, fn
from psycopg import errors
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.string import TextLoader

from orders.storage.models import COLUMNS, SCHEMA_VERSION, CannotOpenDatabase, create_tables, missing_parts, rfc3339
from orders.storage.queries import Dialect, Queries, Rows, Statement, parameter
from orders.storage.sets import ANSWER_TIMEOUT_S, Collision, DatabaseLost

logger = logging.getLogger("orders")
# psycopg warns of errors inside a pipeline, which this module handles.
logging.getLogger("psycopg").setLevel(logging.ERROR)

LOCK_TIMEOUT_MS = 100
STUCK_S = ANSWER_TIMEOUT_S / 2
START_TIMEOUT_S = 30
MIN_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0
# "ORDS": a process holds this advisory lock while it creates the tables.
SCHEMA_LOCK = 0x4F524453

# Another transaction won.
COLLISIONS = (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)

# A commit must wait for the disk (D13). It may wait for more, for example for a standby. The timeouts make PostgreSQL
# give up what no caller waits for any more: a statement (but not a commit), a wait for a lock, and the transaction of a
# process that is gone. Every query has an index, and must use it even if it was planned while the table was small.
SET_UP_SESSION = f"""
    SELECT set_config('DateStyle', 'ISO', false),
           set_config('enable_seqscan', 'off', false),
           set_config(name, coalesce(nullif(current_setting(name), unwanted), wanted), false)
      FROM (VALUES ('synchronous_commit', 'off', 'on'),
                   ('lock_timeout', '0', '{LOCK_TIMEOUT_MS}ms'),
                   ('statement_timeout', '0', '{ANSWER_TIMEOUT_S}s'),
                   ('idle_in_transaction_session_timeout', '0', '{ANSWER_TIMEOUT_S}s')) AS s (name, unwanted, wanted)
"""

DIALECT = Dialect(
    database=PostgresqlDatabase(None, prefer_psycopg3=True),
    begin="BEGIN",
    in_list=lambda column, name: column == fn.ANY(parameter(name)),
    later_of=fn.GREATEST,
    new_orders=Select(
        [fn.json_populate_recordset(SQL("NULL::assigned_order"), parameter("rows", json.dumps))],
        [SQL(column) for column in COLUMNS],
    ),
)


def parse(url: str) -> str:
    """Return a URL with our defaults for the options that it leaves out. Raises ValueError if libpq cannot read it."""
    try:
        given = conninfo_to_dict(url)
        # If a password contains an unescaped "@" or "/", libpq takes a part of it for the host, the port or the
        # database, and would quote that part in its messages.
        names, ports = f"{given.get('host')}{given.get('dbname')}", str(given.get("port", ""))
        is_readable = "@" not in names and re.fullmatch(r"[\d,]*", ports)
    except psycopg.ProgrammingError:
        is_readable = False
    if not is_readable:
        # The message quotes no part of the URL, which may be a part of the password.
        raise ValueError(
            "libpq cannot read the URL: an option in it is unknown, its port is not a number, or a character with a"
            " special meaning, for example in a password, is not written as %XX"
        )
    options = {
        # With these, a connection notices within 20 s that its host has vanished, even while it waits for a commit.
        "connect_timeout": os.environ.get("PGCONNECT_TIMEOUT", "3"),
        "keepalives_count": "3",
        "keepalives_idle": "5",
        "keepalives_interval": "5",
        "tcp_user_timeout": "10000",
        "fallback_application_name": "orders",
        **given,
        "client_encoding": "UTF8",
    }
    hosts = [given.get("host"), given.get("hostaddr"), os.environ.get("PGHOST"), os.environ.get("PGHOSTADDR")]
    if any("," in str(host) for host in hosts):
        # Only one of several servers takes writes.
        options.setdefault("target_session_attrs", os.environ.get("PGTARGETSESSIONATTRS", "read-write"))
    return f"postgresql:///?{urlencode(options, quote_via=quote)}"


def prepare(url: str) -> None:
    """Create the tables if there are none. Check that existing tables are ours and can be written to.

    Tables that are not ours never change. Raises CannotOpenDatabase.
    """
    database = PostgresqlDatabase(url, prefer_psycopg3=True)
    try:
        with closing(database):
            database.execute_sql(f"SET statement_timeout = '{START_TIMEOUT_S}s'")
            # Only one process at a time gets past this lock. It holds the lock until it disconnects.
            database.execute_sql("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
            _refuse_unusable(database)
            with database.atomic():
                _create_schema(database)
    except (CannotOpenDatabase, PeeweeException, psycopg.Error) as error:
        raise CannotOpenDatabase(f"cannot open database {_name(url)}: {one_line(error)}") from error


def open_sessions(url: str, connections: int) -> tuple[list["Session"], "Session"]:
    """Return `connections` - 1 sessions that read, and one that writes. Each connects when it is first used."""
    attempts = Attempts()
    return [Session(url, attempts) for _ in range(connections - 1)], Session(url, attempts)


class Attempts:
    """The attempts of a process to connect: one at a time. After a failure there is a pause, longer each time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pause_s = 0.0
        self._not_before = 0.0

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Connect inside a `with` block, after the pause if the last attempt failed. Raises DatabaseLost."""
        with self._lock:
            time.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                yield
                self._pause_s = 0.0
            except Exception as error:
                self._pause_s = min(max(2 * self._pause_s, MIN_PAUSE_S), MAX_PAUSE_S)
                self._not_before = time.monotonic() + self._pause_s
                raise DatabaseLost(one_line(error)) from error


class Session:
    """A connection that is opened when it is needed, and opened again after it is lost."""

    queries = Queries(DIALECT)
    waits = True

    def __init__(self, url: str, attempts: Attempts) -> None:
        self._url = url
        self._attempts = attempts
        self._connection: psycopg.Connection[Any] | None = None
        self._is_committing = False
        self._trip_began = math.inf

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Connect if necessary, and roll back what fails. Raises Collision, DatabaseLost or the error itself."""
        connection = self._connected()
        self._is_committing = False
        try:
            yield
        except Exception as error:
            is_read_only = isinstance(error, errors.ReadOnlySqlTransaction)
            # The statement was prepared in another session, for example because a pooler changed the session.
            is_unprepared = isinstance(error, errors.InvalidSqlStatementName)
            was_committing, self._is_committing = self._is_committing, False
            self._trip_began = time.monotonic()
            with suppress(psycopg.Error):
                connection.rollback()
            is_cut = connection.info.transaction_status != TransactionStatus.IDLE
            if is_cut or is_read_only or is_unprepared:
                logger.warning("lost the connection to the database: %s", one_line(error))
                self.close()
            if is_read_only or (is_cut and was_committing):
                raise DatabaseLost(one_line(error)) from error
            if is_cut or is_unprepared or isinstance(error, COLLISIONS):
                raise Collision(one_line(error)) from error
            raise
        finally:
            self._trip_began = math.inf

    def trip(self, *statements: Statement | None) -> list[Rows]:
        """Send statements as one message; return the rows of each."""
        connection = self._connected()
        self._is_committing = self.queries.commit in statements
        self._trip_began = time.monotonic()
        with connection.pipeline():
            cursors = [connection.execute(*statement) if statement else None for statement in statements]
        return [cursor.fetchall() if cursor and cursor.description else [] for cursor in cursors]

    def give_up(self) -> None:
        """Cut the connection if a trip takes longer than STUCK_S.

        The PostgreSQL server may have frozen, and another one taken over. A commit is never cut, however long it takes:
        PostgreSQL would go on with it, and each new connection would use one more of the connections that it allows.
        """
        connection = self._connection
        if connection and not self._is_committing and time.monotonic() > self._trip_began + STUCK_S:
            # Another thread is using psycopg, so this shuts down only the socket. That thread then gets an error.
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as cut:
                cut.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._trip_began = math.inf
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            with self._attempts.attempt():
                # Statements are prepared at their first use. In a pipeline, psycopg does not notice when it fails to
                # prepare a statement that it knows.
                self._connection = psycopg.connect(self._url, autocommit=True, context=ADAPTERS, prepare_threshold=0)
            # Not in the attempt: a server that has just frozen must not hold up other sessions. `give_up` ends this.
            self._trip_began = time.monotonic()
            try:
                self._connection.execute(SET_UP_SESSION)
            except Exception as error:
                self.close()
                raise DatabaseLost(one_line(error)) from error
        return self._connection


class TimeLoader(Loader):
    """Loads times as text in the format of `order_profile`."""

    def load(self, data: Buffer) -> str:
        """Return a `timestamptz` as RFC 3339 text."""
        return rfc3339(datetime.fromisoformat(bytes(data).decode()))


ADAPTERS = AdaptersMap(psycopg.adapters)
ADAPTERS.register_loader("timestamptz", TimeLoader)
ADAPTERS.register_loader("uuid", TextLoader)


def _refuse_unusable(database: PostgresqlDatabase) -> None:
    """Raise CannotOpenDatabase if the database cannot keep orders as the contract demands."""
    settings = "current_setting('server_encoding'), current_setting('transaction_read_only'), current_setting('fsync')"
    schema, encoding, read_only, fsync = database.execute_sql(f"SELECT current_schema(), {settings}").fetchone()
    if schema is None:
        raise CannotOpenDatabase("its search_path names no schema that is there")
    if encoding != "UTF8":
        raise CannotOpenDatabase(f"its encoding is {encoding}, not UTF8")
    if read_only == "on":
        raise CannotOpenDatabase("it is read-only")
    if fsync == "off":
        logger.warning("the database does not wait for its disk (fsync is off): a crash of its machine loses orders")


def _create_schema(database: PostgresqlDatabase) -> None:
    """Create our tables if there are none. Raises CannotOpenDatabase if the existing tables are not usable as ours."""
    tables = database.get_tables()
    if "orders_schema_version" not in tables:
        if "assigned_order" in tables:
            raise CannotOpenDatabase("its table assigned_order belongs to another program")
        create_tables(database)
        database.execute_sql("CREATE TABLE orders_schema_version (version INTEGER PRIMARY KEY)")
        database.execute_sql("INSERT INTO orders_schema_version VALUES (%s)", (SCHEMA_VERSION,))
        return
    versions = [version for (version,) in database.execute_sql("SELECT version FROM orders_schema_version")]
    if versions != [SCHEMA_VERSION]:
        found = ", ".join(map(str, versions)) or "none"
        raise CannotOpenDatabase(f"it has schema version {found}, this release knows {SCHEMA_VERSION} alone")
    for privilege in ("SELECT", "INSERT", "UPDATE"):
        query = "SELECT has_table_privilege('assigned_order', %s)"
        if not database.execute_sql(query, (privilege,)).fetchone()[0]:
            raise CannotOpenDatabase(f"its user lacks the privilege {privilege} on the table assigned_order")
    # This check comes last, because a user without a privilege sees no columns.
    if lacking := missing_parts(database):
        raise CannotOpenDatabase(f"it lacks {', '.join(lacking)}")


def one_line(error: Exception) -> str:
    """Return the message of an error on one line. libpq's messages have several lines."""
    return " ".join(str(error).split())


def _name(url: str) -> str:
    """Return the options in a URL that name the database, without the secrets."""
    options = conninfo_to_dict(url)
    names = ("host", "hostaddr", "port", "dbname", "user", "service")
    return " ".join(f"{name}={options[name]}" for name in names if name in options)
