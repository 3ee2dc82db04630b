"""Orders in PostgreSQL: for many processes on many hosts.

Calls run on threads, each with a connection of its own: at first on those that only read, and again on those that write
if they have to. What a call reads is one statement, outside of a transaction; its first write begins one. What can go
wrong, and what is done about it:

    a collision with another process ............. the call is run again, until its time is up
    the connection was lost, or the server no
      longer takes writes, before the commit ..... the call is run again, once, on a new connection
    it was lost during the commit ................ an error: nobody knows whether it was committed, and a client
                                                   that repeats its request will find out
    no answer .................................... an error after ANSWER_TIMEOUT_S
    no connection ................................ an error, at the same time at the latest
    no end of a commit ........................... the same; the thread stays with it, and the others go on
"""

import asyncio
import logging
import math
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from peewee import IntegerField, Model, PeeweeException, PostgresqlDatabase
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import AdaptersMap, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.string import TextLoader

from orders.book import Collision, OrderBook, rfc3339
from orders.jobs import Job
from orders.models import SCHEMA_VERSION, AssignedOrder, create_tables, missing_parts
from orders.store import CannotOpenDatabase, WriteNeeded, refuse_to_write

T = TypeVar("T")

logger = logging.getLogger("orders")

ANSWER_TIMEOUT_S = 5.0
RETRY_PAUSE_S = 0.005
MAX_WAITING = 5_000
SET_UP_TIMEOUT_S = 1.0
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10.0
# "ORDS": the advisory lock under which the tables are created.
SCHEMA_LOCK = 0x4F524453

# Those of another transaction's writes that undo ours, by SQLSTATE (PostgreSQL, appendix A).
COLLISIONS = {
    psycopg.errors.UniqueViolation.sqlstate,
    psycopg.errors.SerializationFailure.sqlstate,
    psycopg.errors.DeadlockDetected.sqlstate,
}
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
# up by the server too: a statement (a commit is none), and the locks of a process that is gone.
SET_UP_SESSION = f"""
    SELECT set_config('DateStyle', 'ISO', false),
           set_config(name, coalesce(nullif(current_setting(name), unwanted), wanted), false)
      FROM (VALUES ('synchronous_commit', 'off', 'on'),
                   ('statement_timeout', '0', '{ANSWER_TIMEOUT_S}s'),
                   ('idle_in_transaction_session_timeout', '0', '{ANSWER_TIMEOUT_S}s')) AS s (name, unwanted, wanted)
"""


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
    database = BoundedDatabase(conninfo)
    try:
        with closing(database):
            database.use_until(time.monotonic() + START_TIMEOUT_S)
            _prepare(database)
    except (CannotOpenDatabase, PeeweeException, psycopg.Error) as error:
        raise CannotOpenDatabase(f"cannot open database {_name(conninfo)}: {one_line(error)}") from error


class PostgresqlStore:
    """Threads with a connection each: some for what only reads, as many for what writes.

    So what holds up writes, the loss of a standby say, does not hold up the executors who poll.
    """

    def __init__(self, conninfo: str, connections: int) -> None:
        """Start as many threads as there may be connections."""
        self._loop = asyncio.get_running_loop()
        self._to_read: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._to_write: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        writers = connections // 2
        self._readers = [
            self._start(self._to_read, Session(conninfo, read_only=True)) for _ in range(connections - writers)
        ]
        self._writers = [self._start(self._to_write, Session(conninfo)) for _ in range(writers)]

    def run(self, call: Callable[[OrderBook], T]) -> Job[T]:
        """Queue `call`; return the job, which is done after ANSWER_TIMEOUT_S at the latest."""
        job = Job(call)
        job.timer = self._loop.call_later(ANSWER_TIMEOUT_S, job.expire)
        self._to_read.put(job)
        return job

    async def close(self) -> None:
        """Run what is queued, and close the connections."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for jobs, threads in ((self._to_read, self._readers), (self._to_write, self._writers)):
            for _ in threads:
                jobs.put(None)
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self, jobs: "queue.SimpleQueue[Job[Any] | None]", session: "Session") -> threading.Thread:
        thread = threading.Thread(target=self._work, args=(jobs, session), name="orders-database", daemon=True)
        thread.start()
        return thread

    def _work(self, jobs: "queue.SimpleQueue[Job[Any] | None]", session: "Session") -> None:
        with closing(session):
            # Now, since it may take long where hosts are gone. If it fails, the next call tries again.
            with suppress(Exception):
                session.connect()
            while (job := jobs.get()) is not None:
                if job.done:
                    continue
                try:
                    job.result = session.run(job.call, job.begun + ANSWER_TIMEOUT_S)
                except WriteNeeded:
                    if self._to_write.qsize() < MAX_WAITING:
                        self._to_write.put(job)
                        continue
                    job.error = RuntimeError(f"{MAX_WAITING} calls wait for a connection to write already")
                except Exception as error:
                    job.error = error
                # The loop is closed if this took longer than a stop waits.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(job.resolve)


class Session:
    """A connection that is there when it is needed, and the calls that are run on it, one after the other."""

    def __init__(self, conninfo: str, *, read_only: bool = False) -> None:
        """Connect later; a `read_only` session raises WriteNeeded where it would write."""
        self._database = BoundedDatabase(conninfo)
        self._book = OrderBook(self._database, before_write=refuse_to_write if read_only else self._begin)
        self._writing = False
        self._committing = False

    def run(self, call: Callable[[OrderBook], T], deadline: float) -> T:
        """Run `call` and commit what it wrote; return its result.

        Raises TimeoutError or what Peewee does, having written nothing, unless the connection was lost in the commit.
        """
        may_reconnect = True
        cause: Exception | None = None
        while True:
            self._database.use_until(deadline)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the call was not done within {ANSWER_TIMEOUT_S} s") from cause
            self._writing = self._committing = False
            try:
                result = call(self._book)
                if self._writing:
                    self._commit()
                return result
            except WriteNeeded:
                raise
            except Exception as error:
                cause = error
                usable = self._recover(error)
                if isinstance(error, Collision) or _sqlstate(error) in COLLISIONS:
                    time.sleep(random.uniform(0, RETRY_PAUSE_S))
                elif usable or self._committing or not may_reconnect or time.monotonic() > deadline:
                    raise
                else:
                    logger.warning("lost the connection to the database: %s", one_line(error))
                    may_reconnect = False

    def connect(self) -> None:
        """Connect, without a call."""
        self._database.use_until(time.monotonic() + ANSWER_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _begin(self) -> None:
        if not self._writing:
            self._database.begin()
            self._writing = True

    def _commit(self) -> None:
        # However long it takes: the server would go on with a commit that nobody waits for, a standby is gone say, and
        # each one given up would take another of its connections.
        self._committing = True
        self._database.use_until(math.inf)
        self._database.commit()

    def _recover(self, error: Exception) -> bool:
        """Undo what a call has written; return whether the connection can still be used."""
        with suppress(PeeweeException, psycopg.Error):
            if _sqlstate(error) != READ_ONLY:
                status = self._database.transaction_status()
                if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    self._database.rollback()
                if self._database.transaction_status() == TransactionStatus.IDLE:
                    return True
        self._database.close()
        return False


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which no answer is waited for beyond a deadline, on the clock `time.monotonic`."""

    deadline = 0.0

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for an answer of the server."""
        limit = None if self.deadline == math.inf else max(0.0, self.deadline - time.monotonic())
        return super().wait(gen, interval, limit)


class BoundedDatabase(PostgresqlDatabase):
    """Peewee's view of one such connection."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo, prefer_psycopg3=True, thread_safe=False, autoconnect=False)

    def use_until(self, deadline: float) -> None:
        """Connect, unless that was done before, and wait for no answer beyond `deadline` until the next such call.

        Connecting takes as long as it takes: `connect_timeout` for each address.
        """
        self._deadline = deadline
        self.connect(reuse_if_open=True)
        self._connection.deadline = deadline

    def transaction_status(self) -> TransactionStatus:
        """Return whether the connection can be used, and is in a transaction."""
        return self._connection.info.transaction_status

    def _connect(self) -> BoundedConnection:
        self._connection = BoundedConnection.connect(self.database, autocommit=True, context=ADAPTERS)
        try:
            # Time to set up a connection that took long, or the next call would have to begin anew.
            self._connection.deadline = max(self._deadline, time.monotonic() + SET_UP_TIMEOUT_S)
            self._connection.execute(SET_UP_SESSION)
        except psycopg.Error:
            self._connection.close()
            raise
        return self._connection


class TimeLoader(Loader):
    """Loads times as the text that `order_profile` has."""

    def load(self, data: Buffer) -> str:
        """Return a `timestamptz` as RFC 3339 text."""
        return rfc3339(datetime.fromisoformat(bytes(data).decode()))


ADAPTERS = AdaptersMap(psycopg.adapters)
ADAPTERS.register_loader("timestamptz", TimeLoader)
ADAPTERS.register_loader("uuid", TextLoader)


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


def _sqlstate(error: Exception) -> str | None:
    """Return PostgreSQL's code of an error that may have come through Peewee."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def one_line(error: Exception) -> str:
    """Return what an error says in one line; libpq takes several."""
    return " ".join(str(error).split())


def _name(conninfo: str) -> str:
    """Return what a connection string says, without the secrets."""
    said = conninfo_to_dict(conninfo)
    return " ".join(
        f"{name}={said[name]}" for name in ("host", "hostaddr", "port", "dbname", "user", "service") if name in said
    )
