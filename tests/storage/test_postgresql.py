"""PostgreSQL: opening a database, collisions with other sessions, and connections that are lost."""

import asyncio
import multiprocessing
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing.synchronize import Barrier
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, Client, message
from harness.postgresql import PostgreSQL, free_port
from harness.server import TIMEOUT_S, ServerProcess, execute, run_orders, wait_until
from orders.lifecycle import Orders
from orders.storage.database import DatabaseURL
from orders.storage.models import COLUMNS, SCHEMA_VERSION, CannotOpenDatabase
from orders.storage.postgresql import Attempts, Session, parse
from orders.storage.sets import DatabaseLost
from tests.storage.scenarios import Scenario, opened, prepare, run


@pytest.fixture
def database(postgresql: PostgreSQL) -> str:
    """The URL of an empty database."""
    return postgresql.create_database()


@pytest.fixture
def prepared(database: str) -> str:
    """The URL of a database with our tables."""
    prepare(database)
    return database


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server that the test may disturb."""
    with PostgreSQL() as server:
        yield server


class BlockedCall:
    """A call, on a thread of its own, that waits for a lock of another session."""

    def __init__(self, url: str, call: Scenario[Any]) -> None:
        """Start the call and wait until it waits for a lock."""
        self._outcome: Any = None
        self._url = url
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        deadline = time.monotonic() + TIMEOUT_S
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not execute(url, waiting):
            assert time.monotonic() < deadline and self._thread.is_alive(), f"it did not wait: {self._outcome!r}"
            time.sleep(0.01)

    def _run(self) -> None:
        try:
            self._outcome = run(self._url, self._call)
        except Exception as error:
            self._outcome = error

    def outcome(self) -> Any:
        """Return the call's result or its error."""
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "it is still waiting"
        return self._outcome


@pytest.fixture
def other(prepared: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session, in a transaction, on the prepared database."""
    with psycopg.connect(prepared) as connection:
        connection.execute("SET deadlock_timeout = '10s'")
        yield connection


def insert(connection: psycopg.Connection[Any], order: str, executor: str) -> None:
    """Insert an assigned order, as another server would."""
    connection.execute(
        "INSERT INTO assigned_order (assigned_order_id, order_id, executor_id, zone_id, execution_status, assign_time)"
        " VALUES (gen_random_uuid(), %s, %s, 'zone', 'assigned', now())",
        (order, executor),
    )


def status_of(url: str, order: str) -> str:
    """Return the status of an order."""
    ((status,),) = execute(url, f"SELECT execution_status FROM assigned_order WHERE order_id = '{order}'")
    return str(status)


# The URL


def test_a_url_keeps_all_of_its_options() -> None:
    """The URL's options reach libpq; those that it leaves out get our defaults; the encoding is always ours."""
    options = (
        "?sslmode=require&connect_timeout=7&application_name=x&options=-csearch_path%3Dother&client_encoding=LATIN1"
    )
    said = conninfo_to_dict(parse(f"postgresql://user:s%40c%2Fr%25%20t+@db.example:5433/orders{options}"))
    assert (said["user"], said["password"], said["host"], said["port"]) == ("user", "s@c/r% t+", "db.example", "5433")
    assert (said["dbname"], said["sslmode"], said["options"]) == ("orders", "require", "-csearch_path=other")
    assert (said["connect_timeout"], said["application_name"]) == ("7", "x")
    assert (said["client_encoding"], said["keepalives_idle"]) == ("UTF8", "5")
    assert "target_session_attrs" not in said


def test_of_several_hosts_the_one_that_takes_writes_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several hosts are one primary and its standbys, unless the URL or libpq's variable says otherwise."""
    assert conninfo_to_dict(parse("postgresql://a,b/orders"))["target_session_attrs"] == "read-write"
    assert conninfo_to_dict(parse("postgresql://a,b/orders?target_session_attrs=any"))["target_session_attrs"] == "any"
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    said = conninfo_to_dict(parse("postgresql://a,b/orders"))
    assert (said["target_session_attrs"], said["connect_timeout"]) == ("primary", "9")


# The schema


def test_columns_have_the_types_of_what_they_hold(prepared: str) -> None:
    """Times are `timestamptz`, the id is a UUID, and the columns have the order of the profile (D6)."""
    query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'assigned_order'"
    columns = execute(prepared, f"{query} ORDER BY ordinal_position")
    assert [name for name, _ in columns] == list(COLUMNS)
    types = dict(columns)
    assert types["assign_time"] == types["acquire_time"] == "timestamp with time zone"
    assert types["assigned_order_id"] == "uuid"


def prepare_at_once(database: str, barrier: Barrier) -> None:
    """Prepare a database at the same moment as other processes."""
    barrier.wait(TIMEOUT_S)
    prepare(database)


def test_many_processes_may_create_the_schema_at_once(database: str) -> None:
    """If several processes start together on an empty database, none fails, and the version is recorded once."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    processes = [context.Process(target=prepare_at_once, args=(database, barrier)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    for process in processes:
        process.close()
    assert execute(database, "SELECT version FROM orders_schema_version") == [(SCHEMA_VERSION,)]


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        (
            f"UPDATE orders_schema_version SET version = {SCHEMA_VERSION + 1}",
            f"it has schema version {SCHEMA_VERSION + 1}, this release knows {SCHEMA_VERSION} alone",
        ),
        ("DELETE FROM orders_schema_version", "it has schema version none"),
        ("DROP INDEX assigned_order_active_executor", "it lacks the index assigned_order_active_executor"),
        ("ALTER TABLE assigned_order RENAME COLUMN zone_id TO zone", "it lacks the column zone_id"),
        ("DROP TABLE orders_schema_version", "its table assigned_order belongs to another program"),
        ("ALTER DATABASE {name} SET default_transaction_read_only = on", "it is read-only"),
        ("ALTER DATABASE {name} SET search_path = nowhere", "its search_path names no schema that is there"),
    ],
)
def test_a_database_that_is_not_ours_is_refused(prepared: str, statement: str, complaint: str) -> None:
    """With a newer, foreign, broken or read-only database, the server does not start and says why in one line."""
    execute(prepared, statement.format(name=prepared.rpartition("/")[2]))
    ended = run_orders("serve", "--port", "0", "--database", prepared)
    assert ended.code == 1, ended
    assert ended.errors.count("\n") == 1 and complaint in ended.errors, ended


def test_a_foreign_table_is_left_alone(database: str) -> None:
    """Another program's table of our name is refused, and no other table appears beside it."""
    execute(database, "CREATE TABLE assigned_order (something TEXT)")
    with pytest.raises(CannotOpenDatabase, match="belongs to another program"):
        prepare(database)
    assert execute(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("assigned_order",)]


def test_another_encoding_is_refused(postgresql: PostgreSQL) -> None:
    """A database that cannot hold every character (D7) is refused."""
    url = postgresql.create_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(CannotOpenDatabase, match="its encoding is LATIN1, not UTF8"):
        prepare(url)


@pytest.mark.parametrize(
    ("tables", "missing"),
    [("assigned_order, orders_schema_version", "INSERT"), ("orders_schema_version", "SELECT")],
)
def test_a_user_who_may_not_write_is_refused(postgresql: PostgreSQL, prepared: str, tables: str, missing: str) -> None:
    """A missing privilege is found at the start, not at the first write."""
    role = f"reader_of_{prepared.rpartition('/')[2]}"
    postgresql.execute(f"CREATE ROLE {role} LOGIN")
    execute(prepared, f"GRANT SELECT ON {tables} TO {role}")
    with pytest.raises(CannotOpenDatabase, match=f"lacks the privilege {missing} on the table assigned_order"):
        prepare(prepared.replace("orders@", f"{role}@"))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://orders:hush@127.0.0.1:{port}/nowhere", 'database "nowhere" does not exist'),
        ("postgresql://orders:hush@127.0.0.1:1/orders", "Connection refused"),
        ("postgresql://orders:hush@127.0.0.1:{port}/orders?sslmode=require", "server does not support SSL"),
    ],
)
def test_a_database_out_of_reach_is_one_line(postgresql: PostgreSQL, url: str, complaint: str) -> None:
    """If the server cannot reach its database, it says why in one line without the password, and exits with 1."""
    ended = run_orders("serve", "--port", "0", "--database", url.format(port=postgresql.port))
    assert ended.code == 1, ended
    assert ended.errors.count("\n") == 1 and complaint in ended.errors and "hush" not in ended.errors, ended


def test_a_database_that_does_not_wait_for_its_disk_gets_a_warning() -> None:
    """With fsync off, this service cannot make an answer durable (D13), and the log says so."""
    with PostgreSQL(options=["fsync=off"]) as careless, ServerProcess(database=careless.url) as service:
        assert service.stop() == 0
        assert "fsync is off" in service.log()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-c synchronous_commit=off", ("on", "5s")),
        ("-c synchronous_commit=remote_apply -c statement_timeout=700ms", ("remote_apply", "700ms")),
        ("-c datestyle=German -c timezone=Asia/Tokyo", ("on", "5s")),
    ],
)
def test_commits_wait_for_the_disk_whatever_the_settings_are(
    prepared: str, options: str, expected: tuple[str, str]
) -> None:
    """Each commit waits for the disk (D13), the database's other settings stay, and times are in UTC."""
    url = f"{prepared}?options={options.replace(' ', '%20').replace('=', '%3D')}"
    session = Session(parse(url), Attempts())
    query = "SELECT current_setting('synchronous_commit'), current_setting('statement_timeout')"
    with session.turn():
        assert session.trip((query, [])) == [[expected]]
    session.close()
    run(url, lambda orders: orders.assign("order", "executor", "zone"))
    profile = run(url, lambda orders: orders.acquire("executor"))
    assert profile
    ((stored,),) = execute(
        prepared,
        "SELECT to_char(assign_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM assigned_order",
    )
    assert profile["assign_time"] == stored


# Collisions


def test_an_assign_of_an_order_that_another_session_has_just_assigned(
    prepared: str, other: psycopg.Connection[Any]
) -> None:
    """The call that loses a race for an order finds the order known, and changes nothing (D3, D12)."""
    run(prepared, lambda orders: orders.assign("mine", "executor", "zone"))
    insert(other, "order", "winner")
    call = BlockedCall(prepared, lambda orders: orders.assign("order", "executor", "zone"))
    other.commit()
    assert call.outcome() is False
    assert status_of(prepared, "mine") == "assigned"


def test_an_assign_to_an_executor_to_whom_another_session_has_just_assigned(
    prepared: str, other: psycopg.Connection[Any]
) -> None:
    """Of two assigns to one executor, the later one completes the earlier one's order (D2, D12)."""
    insert(other, "earlier", "executor")
    call = BlockedCall(prepared, lambda orders: orders.assign("later", "executor", "zone"))
    other.commit()
    assert call.outcome() is True
    assert (status_of(prepared, "earlier"), status_of(prepared, "later")) == ("completed", "assigned")


@pytest.mark.parametrize("status", ["cancelled", "completed"])
def test_an_acquire_of_an_order_that_has_just_ended(prepared: str, other: psycopg.Connection[Any], status: str) -> None:
    """An order that another session ends between the read and the write does not become active again (D5)."""
    run(prepared, lambda orders: orders.assign("order", "executor", "zone"))
    other.execute(f"UPDATE assigned_order SET execution_status = '{status}'".encode())
    call = BlockedCall(prepared, lambda orders: orders.acquire("executor"))
    other.commit()
    assert call.outcome() is None
    assert status_of(prepared, "order") == status


def test_two_acquires_at_once_have_one_acquire_time(prepared: str, other: psycopg.Connection[Any]) -> None:
    """The second of two first acquires returns the time of the first (D4, D12)."""
    run(prepared, lambda orders: orders.assign("order", "executor", "zone"))
    other.execute("UPDATE assigned_order SET execution_status = 'acquired', acquire_time = '2030-01-02T03:04:05.6Z'")
    call = BlockedCall(prepared, lambda orders: orders.acquire("executor"))
    other.commit()
    assert call.outcome()["acquire_time"] == "2030-01-02T03:04:05.600000Z"


def test_a_cancel_of_an_order_that_has_just_been_cancelled(prepared: str, other: psycopg.Connection[Any]) -> None:
    """Of two cancels at once, the second finds nothing to cancel (D12)."""
    run(prepared, lambda orders: orders.assign("order", "executor", "zone"))
    other.execute("UPDATE assigned_order SET execution_status = 'cancelled'")
    call = BlockedCall(prepared, lambda orders: orders.cancel("order"))
    other.commit()
    assert call.outcome() is False


def test_a_deadlock_is_survived(prepared: str, other: psycopg.Connection[Any]) -> None:
    """The call that PostgreSQL ends to resolve a deadlock runs again, and succeeds (D12)."""
    run(prepared, lambda orders: orders.assign("held", "executor", "zone"))
    insert(other, "order", "winner")
    # The call looks for a deadlock when it has waited for 2 s. By then, the other session has to wait, too.
    url = f"{prepared}?options=-c%20deadlock_timeout%3D2s%20-c%20lock_timeout%3D60s%20-c%20statement_timeout%3D60s"
    call = BlockedCall(url, lambda orders: orders.assign("order", "executor", "zone"))
    # The call has locked the row of "held" and waits for "order". This statement waits for the row of "held".
    other.execute("UPDATE assigned_order SET zone_id = 'other' WHERE order_id = 'held'")
    other.commit()
    assert call.outcome() is False
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    wait_until(lambda: execute(prepared, deadlocks) != [(0,)], "there was a deadlock")


def test_a_serialization_failure_is_survived(prepared: str, other: psycopg.Connection[Any]) -> None:
    """Under a stricter isolation level, the transaction that PostgreSQL refuses runs again (D12)."""
    run(prepared, lambda orders: orders.assign("order", "executor", "zone"))
    other.execute("UPDATE assigned_order SET zone_id = 'other'")
    url = f"{prepared}?options=-c%20default_transaction_isolation%3Dserializable"
    call = BlockedCall(url, lambda orders: orders.cancel("order"))
    other.commit()
    assert call.outcome() is True
    assert status_of(prepared, "order") == "cancelled"


def test_a_call_does_not_wait_for_a_lock_for_ever(
    prepared: str, other: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that cannot get its lock fails in the end, and then holds no lock itself."""
    insert(other, "order", "winner")
    with monkeypatch.context() as impatient, pytest.raises(TimeoutError):
        impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 1.0)
        run(prepared, lambda orders: orders.assign("order", "executor", "zone"))
    other.rollback()
    assert run(prepared, lambda orders: orders.assign("order", "executor", "zone")) is True


def test_a_call_that_waits_for_a_lock_does_not_delay_others(prepared: str, other: psycopg.Connection[Any]) -> None:
    """Calls that arrive with a call that cannot get its lock, or after it, are answered (D12)."""
    insert(other, "order", "winner")

    async def scenario(orders: Orders) -> None:
        held = asyncio.create_task(orders.assign("order", "executor", "zone"))
        neighbours = [orders.assign(f"order-{n}", f"executor-{n}", "zone") for n in range(20)]
        assert await asyncio.gather(*neighbours) == [True] * 20
        assert not held.done()
        for n in range(3):
            assert await orders.cancel(f"order-{n}") is True
        other.rollback()
        assert await held is True

    run(prepared, scenario)


# Connections


def end_sessions(postgresql: PostgreSQL, database: str) -> None:
    """End all sessions of a database."""
    name = database.rpartition("/")[2]
    postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'", "postgres")


def test_a_connection_that_was_cut_is_replaced(postgresql: PostgreSQL, prepared: str) -> None:
    """If PostgreSQL ends a connection, no client gets an error."""
    with ServerProcess("--workers", "2", database=prepared) as service, Client(service.url) as client:
        for n in range(50):
            assert message(client.assign(f"order-{n}", "executor")) == CREATED
            if n % 10 == 0:
                end_sessions(postgresql, prepared)
        assert client.acquire("executor").json()["order_profile"]["order_id"] == "order-49"


def test_a_session_without_its_prepared_statements_is_replaced(prepared: str) -> None:
    """If a connection leads to another session than before, for example behind a pooler, its calls run again."""

    async def scenario(orders: Orders) -> None:
        await orders.ping()
        (session,) = orders._reads._sessions
        assert isinstance(session, Session) and session._connection
        # Not through psycopg, which would then prepare its statements again.
        session._connection.pgconn.exec_(b"DEALLOCATE ALL")
        await orders.ping()

    run(prepared, scenario)


def test_the_service_is_back_when_its_database_is(own_postgresql: PostgreSQL) -> None:
    """Without a database, calls get 500 and /health 503; when it is back, both answer without a restart."""
    with ServerProcess(database=own_postgresql.url) as service, Client(service.url) as client:
        client.assign("order", "executor")
        for down, up in (
            (own_postgresql.stop, own_postgresql.start),
            (own_postgresql.kill, own_postgresql.start),
            (lambda: own_postgresql.signal(signal.SIGSTOP), lambda: own_postgresql.signal(signal.SIGCONT)),
        ):
            down()
            with ThreadPoolExecutor(3) as threads:
                calls = [
                    threads.submit(client.http.get, "/health"),
                    threads.submit(client.acquire, "executor"),
                    threads.submit(client.assign, "new", "executor"),
                ]
                answers = [call.result() for call in calls]
            assert [answer.status_code for answer in answers] == [503, 500, 500], [answer.text for answer in answers]
            assert message(answers[1]) == message(answers[2]) == "Unknown error"
            up()
            assert client.http.get("/health").json() == {"status": "ok"}
            assert message(client.acquire("executor")) == ACQUIRED
        assert service.stop() == 0, service.log()


def test_a_host_is_found_behind_a_host_that_is_gone(prepared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the search for the right host takes longer than a call may, the next call uses its connection."""
    # This accepts connections and sends nothing.
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = prepared.replace("@", f"@127.0.0.1:{gone.getsockname()[1]},") + "?connect_timeout=2"

        async def scenario(orders: Orders) -> None:
            with monkeypatch.context() as impatient, pytest.raises(TimeoutError):
                impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 0.5)
                await orders.assign("order", "executor", "zone")
            assert await orders.assign("order", "executor", "zone") is True

        run(url, scenario)


def test_a_thread_is_not_lost_to_a_database_that_hangs(
    own_postgresql: PostgreSQL, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that gets no answer fails, and the next call goes to a server that answers."""
    url = f"postgresql://orders@127.0.0.1:{own_postgresql.port},127.0.0.1:{postgresql.port}/orders?connect_timeout=2"
    for database in (own_postgresql.url, postgresql.url):
        prepare(database)

    async def scenario(orders: Orders) -> None:
        await orders.ping()
        own_postgresql.signal(signal.SIGSTOP)
        with monkeypatch.context() as impatient, pytest.raises(TimeoutError):
            impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 1.0)
            impatient.setattr("orders.storage.postgresql.STUCK_S", 0.0)
            await orders.ping()
        await orders.ping()

    run(url, scenario)


def test_a_table_that_was_locked_can_be_used_again(prepared: str) -> None:
    """Polls that wait for another session's lock on the whole table succeed when it is free, and so do later calls."""

    async def scenario(orders: Orders) -> None:
        await orders.ping()
        with psycopg.connect(prepared) as other:
            other.execute("LOCK TABLE assigned_order IN ACCESS EXCLUSIVE MODE")
            polls = [asyncio.create_task(orders.acquire(f"executor-{number}")) for number in range(3)]
            await asyncio.sleep(1)
        assert await asyncio.gather(*polls) == [None] * 3
        assert await orders.assign("order", "executor-1", "zone") is True
        assert await orders.acquire("executor-1") is not None

    run(prepared, scenario)


def test_a_stuck_database_does_not_pile_up_requests(own_postgresql: PostgreSQL) -> None:
    """While the database hangs, many more requests than connections all get an answer in a bounded time."""
    options = ("--database-connections", "2")
    with ServerProcess(*options, database=own_postgresql.url) as service:
        own_postgresql.signal(signal.SIGSTOP)
        statuses: list[int] = []

        def acquire() -> None:
            with Client(service.url) as client:
                statuses.append(client.acquire("executor").status_code)

        threads = [threading.Thread(target=acquire) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        assert statuses == [500] * 20
        own_postgresql.signal(signal.SIGCONT)
        with Client(service.url) as client:
            assert client.acquire("executor").status_code == 200


def test_a_read_only_database_refuses_writes_alone(postgresql: PostgreSQL, prepared: str) -> None:
    """While the database takes no writes, calls that need none succeed; then all calls succeed again."""
    alter = f"ALTER DATABASE {prepared.rpartition('/')[2]}"
    with ServerProcess(database=prepared) as service, Client(service.url) as client:
        client.assign("order", "executor")
        profile = client.acquire("executor").content
        postgresql.execute(f"{alter} SET default_transaction_read_only = on", "postgres")
        end_sessions(postgresql, prepared)
        for answer in (client.assign("new", "executor"), client.cancel("order")):
            assert (answer.status_code, message(answer)) == (500, "Unknown error")
        assert client.acquire("executor").content == profile
        assert message(client.assign("order", "executor")) == ALREADY_EXISTS
        postgresql.execute(f"{alter} RESET default_transaction_read_only", "postgres")
        end_sessions(postgresql, prepared)
        assert message(client.cancel("order")) == CANCELED
        assert message(client.assign("new", "executor")) == CREATED
        service.stop()
        assert "in a read-only transaction" in service.log()


def waiting_commits(postgresql: PostgreSQL) -> list[Any]:
    """Return the process ids of the sessions whose commits wait for a standby."""
    return [pid for (pid,) in postgresql.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")]


class StuckAssign:
    """An assign, on a thread of its own, whose commit waits for a standby that does not exist."""

    def __init__(self, postgresql: PostgreSQL, service: ServerProcess) -> None:
        """Let commits wait for the standby, and assign orders until a commit waits."""
        postgresql.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        postgresql.execute("SELECT pg_reload_conf()")
        self._thread = threading.Thread(target=self._run, args=(service.url,))
        self._thread.start()
        wait_until(lambda: len(waiting_commits(postgresql)) == 1, "a commit waits for the standby")

    def _run(self, url: str) -> None:
        with Client(url) as client:
            # The setting takes effect after a moment.
            for number in count():
                self.order = f"stuck-{number}"
                answer = client.assign(self.order, "stuck")
                if answer.status_code != 200:
                    self._answer = (answer.status_code, message(answer))
                    return

    def is_stuck(self) -> bool:
        """Return whether the assign has no answer yet."""
        return self._thread.is_alive()

    def answer(self) -> tuple[int, str]:
        """Wait for the answer to the assign; return its status and message."""
        self._thread.join(TIMEOUT_S)
        return self._answer


def test_a_commit_whose_outcome_is_unknown_is_an_error(own_postgresql: PostgreSQL) -> None:
    """If the connection breaks during the commit, the answer is 500, and a repeat finds out what happened (D3)."""
    with ServerProcess(database=own_postgresql.url) as service, Client(service.url) as client:
        assign = StuckAssign(own_postgresql, service)
        own_postgresql.execute(f"SELECT pg_terminate_backend({waiting_commits(own_postgresql)[0]})")
        assert assign.answer() == (500, "Unknown error")
        assert message(client.assign(assign.order, "stuck")) == ALREADY_EXISTS


def test_commits_that_do_not_end_do_not_stop_polls(own_postgresql: PostgreSQL) -> None:
    """Without the standby that commits wait for, writes get 500 and polls succeed; with it, writes succeed again."""
    with (
        ServerProcess("--database-connections", "4", database=own_postgresql.url) as service,
        Client(service.url) as client,
    ):
        client.assign("order", "executor")
        profile = client.acquire("executor").content
        first = StuckAssign(own_postgresql, service)
        others: list[int] = []

        def assign(number: int) -> None:
            with Client(service.url) as client:
                others.append(client.assign(f"order-{number}", f"executor-{number}").status_code)

        threads = [threading.Thread(target=assign, args=(number,)) for number in range(11)]
        for thread in threads:
            thread.start()
        while first.is_stuck() or any(thread.is_alive() for thread in threads):
            assert client.acquire("executor").content == profile
            assert client.http.get("/health").status_code == 200
        assert first.answer() == (500, "Unknown error")
        assert others == [500] * 11
        assert len(waiting_commits(own_postgresql)) == 1, "more than one connection writes"
        own_postgresql.execute("ALTER SYSTEM RESET synchronous_standby_names")
        own_postgresql.execute("SELECT pg_reload_conf()")
        wait_until(lambda: client.assign("new", "executor").status_code != 500, "writes succeed again")
        assert message(client.assign(first.order, "stuck")) == ALREADY_EXISTS
        for number in range(11):
            assert message(client.assign(f"order-{number}", f"executor-{number}")) == CREATED, "it ran too late"


def test_closing_runs_the_calls_that_wait(prepared: str) -> None:
    """A database that is closed at once still runs all calls that it has accepted, and leaves no connection open."""

    async def scenario() -> None:
        async with opened(prepared) as orders:
            calls = [asyncio.create_task(orders.assign(f"order-{n}", f"executor-{n}", "zone")) for n in range(30)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == [True] * 30

    asyncio.run(scenario())
    assert execute(prepared, "SELECT count(*) FROM assigned_order") == [(30,)]
    sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'orders'"
    wait_until(lambda: execute(prepared, sessions) == [], "all connections are closed")


def test_without_the_driver_the_extra_is_named() -> None:
    """If the server is installed without the extra, the error names the extra that PostgreSQL needs."""
    code = (
        "import sys; sys.modules['psycopg'] = None; from orders.cli import main;"
        " sys.exit(main(['serve', '--port', '0', '--database', 'postgresql://x/y']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended
    assert "pip install '.[postgresql]'" in ended.stderr, ended


def test_a_lost_database_is_not_stormed_with_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server is away, a process makes one attempt to connect at a time. The pauses between them grow."""
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr("orders.storage.postgresql.time", clock)

    async def scenario() -> None:
        orders = Orders(DatabaseURL.parse(f"postgresql://127.0.0.1:{free_port()}/orders"))
        while len(pauses) < 8:
            calls = (orders.acquire("executor"), orders.cancel("order"))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, DatabaseLost) for outcome in outcomes), outcomes
        await orders.close()

    asyncio.run(scenario())
    assert pauses[:8] == pytest.approx([0, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1])
