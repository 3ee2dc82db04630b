"""Orders in PostgreSQL: for many processes on many hosts.

Each process has a thread with a connection for sets that only read, and one for sets that write: so what holds up
writes, the loss of a standby say, does not hold up the executors who poll. A connection that is lost before a commit
was sent is replaced, and its set tried again. If it is lost during the commit, nobody knows whether that took place,
and a client that repeats its request will find out. A commit may take as long as it likes: its calls fail when their
time is up.
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
from typing import Any

import psycopg
from peewee import SQL, IntegerField, Model, PeeweeException, PostgresqlDatabase, fn
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.string import TextLoader

from orders.lifecycle import Orders, read, rfc3339, write
from orders.models import COLUMNS, SCHEMA_VERSION, AssignedOrder, CannotOpenDatabase, create_tables, missing_parts
from orders.queries import Dialect, Queries, Rows, Statement, placeholder
from orders.sets import ANSWER_TIMEOUT_S, Collision, DatabaseLost, Sets

logger = logging.getLogger("orders")
# It warns of errors inside a pipeline, which are handled here.
logging.getLogger("psycopg").setLevel(logging.ERROR)

LOCK_TIMEOUT_MS = 100
STUCK_S = ANSWER_TIMEOUT_S / 2
START_TIMEOUT_S = 30
# "ORDS": the advisory lock under which the tables are created.
SCHEMA_LOCK = 0x4F524453

# Those of another transaction's writes that undo ours, by SQLSTATE (PostgreSQL, appendix A).
COLLISIONS = {
    psycopg.errors.UniqueViolation.sqlstate,
    psycopg.errors.SerializationFailure.sqlstate,
    psycopg.errors.DeadlockDetected.sqlstate,
    psycopg.errors.LockNotAvailable.sqlstate,
}
# A statement that was prepared on another session: behind a pooler that changes them, for example.
UNKNOWN_STATEMENT = psycopg.errors.InvalidSqlStatementName.sqlstate
READ_ONLY = psycopg.errors.ReadOnlySqlTransaction.sqlstate

# What holds unless the URL or one of libpq's environment variables says otherwise. A host that has vanished without a
# word is found out within 20 s, also by a commit that waits.
DEFAULTS = {
    "connect_timeout": "3",
    "fallback_application_name": "orders",
    "keepalives_count": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "tcp_user_timeout": "10000",
}
VARIABLES = {"connect_timeout": "PGCONNECT_TIMEOUT", "target_session_attrs": "PGTARGETSESSIONATTRS"}

# A commit has to wait for the disk (D13); it may wait for more, a standby say. What nobody waits for any more is given
# up by the server too: a statement (a commit is none), a lock that somebody keeps, and the locks of a process that is
# gone. Every query has an index, which a plan that was made while the table was small must use too.
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
    one_of=lambda column, name: column == fn.ANY(placeholder(name)),
    later_of=fn.GREATEST,
    new_orders=(
        fn.json_populate_recordset(SQL("NULL::assigned_order"), placeholder("rows", json.dumps)),
        [SQL(column) for column in COLUMNS],
    ),
)


UNREADABLE = (
    "libpq cannot read the URL: an option in it is unknown, its port is no number, or a character with a special"
    " meaning, in a password say, is not written as %XX"
)


def parse(url: str) -> str:
    """Return a URL, with our defaults for what it leaves out, as what libpq calls a connection string.

    Raises ValueError if libpq cannot read it.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Its words have parts of the URL in them, which may be parts of the password.
        raise ValueError(UNREADABLE) from None
    # libpq takes a password that has a slash in it for a port, and would say so.
    if "@" in str(given.get("dbname")) or not re.fullmatch(r"[\d,]*", str(given.get("port", ""))):
        raise ValueError(UNREADABLE)
    defaults = dict(DEFAULTS)
    hosts = [given.get("host"), given.get("hostaddr"), os.environ.get("PGHOST"), os.environ.get("PGHOSTADDR")]
    if any("," in str(host) for host in hosts):
        # Of several servers, only one takes writes.
        defaults["target_session_attrs"] = "read-write"
    for name, variable in VARIABLES.items():
        if variable in os.environ:
            defaults.pop(name, None)
    return make_conninfo("", **{**defaults, **given, "client_encoding": "UTF8"})


def prepare(conninfo: str) -> None:
    """Create the tables if there are none, and see that those that are there are ours and can be written to.

    Raises CannotOpenDatabase, having changed nothing that is not ours.
    """
    database = ByConnectionString(conninfo, prefer_psycopg3=True)
    try:
        with closing(database):
            _prepare(database)
    except (CannotOpenDatabase, PeeweeException, psycopg.Error) as error:
        raise CannotOpenDatabase(f"cannot open database {_name(conninfo)}: {one_line(error)}") from error


def open_orders(conninfo: str, connections: int) -> Orders:
    """Open the database for the running event loop: one connection is for writes, the others are for polls."""
    readers = [Session(conninfo) for _ in range(connections - 1)]
    return Orders(Session.queries, Sets(read, *readers), Sets(write, Session(conninfo)))


class Session:
    """A connection that is there when it is needed."""

    queries = Queries(DIALECT)

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection[Any] | None = None
        self._is_committing = False
        self._trip_began = math.inf

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Connect, if there is no connection; undo what fails. Raises Collision, DatabaseLost or the error itself."""
        connection = self._connected()
        self._is_committing = False
        try:
            yield
        except Exception as error:
            sqlstate = getattr(error, "sqlstate", None)
            was_committing, self._is_committing = self._is_committing, False
            self._trip_began = time.monotonic()
            with suppress(psycopg.Error):
                connection.rollback()
            is_cut = connection.info.transaction_status != TransactionStatus.IDLE
            if is_cut or sqlstate in (READ_ONLY, UNKNOWN_STATEMENT):
                logger.warning("lost the connection to the database: %s", one_line(error))
                self.close()
            if sqlstate == READ_ONLY or (is_cut and was_committing):
                raise DatabaseLost(one_line(error)) from error
            if is_cut or sqlstate in (UNKNOWN_STATEMENT, *COLLISIONS):
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
        """Cut the connection if nothing has come back for long: the server may have frozen, and another taken over.

        A commit is waited for however long it takes: the server would go on with it, and each connection given up
        would take another of the server's.
        """
        connection = self._connection
        if connection and not self._is_committing and time.monotonic() > self._trip_began + STUCK_S:
            # psycopg is in use on the other thread, which finds its connection cut.
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
            try:
                # Prepared at once: in a pipeline, psycopg does not notice that it failed to prepare a known statement.
                self._connection = psycopg.connect(
                    self._conninfo, autocommit=True, context=ADAPTERS, prepare_threshold=0
                )
                self._trip_began = time.monotonic()
                self._connection.execute(SET_UP_SESSION)
            except Exception as error:
                self.close()
                raise DatabaseLost(one_line(error)) from error
        return self._connection


class TimeLoader(Loader):
    """Loads times as the text that `order_profile` has."""

    def load(self, data: Buffer) -> str:
        """Return a `timestamptz` as RFC 3339 text."""
        return rfc3339(datetime.fromisoformat(bytes(data).decode()))


ADAPTERS = AdaptersMap(psycopg.adapters)
ADAPTERS.register_loader("timestamptz", TimeLoader)
ADAPTERS.register_loader("uuid", TextLoader)


class ByConnectionString(PostgresqlDatabase):
    """Peewee's view of a database, which it would take for a name."""

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database, autocommit=True)


class SchemaVersion(Model):
    """The version of the tables, in one row."""

    version = IntegerField(primary_key=True)

    class Meta:
        table_name = "orders_schema_version"


def _prepare(database: PostgresqlDatabase) -> None:
    database.execute_sql("SELECT set_config('statement_timeout', %s, false)", (f"{START_TIMEOUT_S}s",))
    # It lets one of several starting processes in at a time, until it disconnects.
    database.execute_sql("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
    _refuse_unusable(database)
    with database.atomic():
        _create_schema(database)


def _refuse_unusable(database: PostgresqlDatabase) -> None:
    """Raise CannotOpenDatabase if no order could be kept here as it has to be."""
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
    """Create the tables in a database that has none of ours; raise CannotOpenDatabase if somebody else's are there."""
    tables = database.get_tables()
    with SchemaVersion.bind_ctx(database):
        if SchemaVersion._meta.table_name not in tables:
            if AssignedOrder._meta.table_name in tables:
                raise CannotOpenDatabase("its table assigned_order belongs to another program")
            create_tables(database)
            SchemaVersion.create_table()
            SchemaVersion.insert(version=SCHEMA_VERSION).execute()
            return
        versions = [row.version for row in SchemaVersion.select()]
    if versions != [SCHEMA_VERSION]:
        found = ", ".join(map(str, versions)) or "none"
        raise CannotOpenDatabase(f"it has schema version {found}, this release knows {SCHEMA_VERSION} alone")
    for privilege in ("SELECT", "INSERT", "UPDATE"):
        query = "SELECT has_table_privilege('assigned_order', %s)"
        if not database.execute_sql(query, (privilege,)).fetchone()[0]:
            raise CannotOpenDatabase(f"its user lacks the privilege {privilege} on the table assigned_order")
    # Last: nobody sees columns without a privilege.
    if lacking := missing_parts(database):
        raise CannotOpenDatabase(f"it lacks {', '.join(lacking)}")


def one_line(error: Exception) -> str:
    """Return what an error says in one line; libpq takes several."""
    return " ".join(str(error).split())


def _name(conninfo: str) -> str:
    """Return what a connection string says, without the secrets."""
    said = conninfo_to_dict(conninfo)
    return " ".join(
        f"{name}={said[name]}" for name in ("host", "hostaddr", "port", "dbname", "user", "service") if name in said
    )
