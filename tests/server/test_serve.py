"""Starting and stopping the server, its workers, and its connections."""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from harness.client import CREATED, NO_ORDERS, Client, message
from harness.load import Load, wait_for_assigns
from harness.processes import children, end_group, start
from harness.server import ServerProcess, database_url, execute, wait_until
from orders.contract import Contract
from orders.http.app import App
from orders.http.exchange import Request
from orders.http.responses import Response, message_response
from orders.lifecycle import Orders
from orders.server.connections import Server
from orders.server.sockets import listen
from orders.storage.database import DatabaseURL

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server(database: Path, workers: str, signal_number: signal.Signals) -> None:
    """On SIGTERM or SIGINT, the server exits with 0, frees its port, and leaves no process behind."""
    with ServerProcess("--workers", workers, database=database) as server, Client(server.url) as client:
        assert message(client.assign("order", "executor")) == CREATED
        processes = children(server.process.pid)
        assert server.stop(signal_number) == 0, server.log()
        assert "Traceback" not in server.log()
        assert not [process for process in processes if is_running(process)]
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    assert not (database.parent / "orders.db-wal").exists(), "the database was not closed"


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_under_load_loses_no_answer(database: Path, workers: str, keep_alive: bool) -> None:
    """A stop answers every request that was sent before, and the database has all that was answered (D13).

    A client that connects at the moment of the stop may be refused or reset; then its request has no effect. The same
    holds for a client that pauses during the stop, and then sends a request on a connection that is being closed.
    """
    with ServerProcess("--workers", workers, database=database) as server:
        load = Load(server.address, "stop", keep_alive=keep_alive)
        wait_for_assigns(load, 20)
        begun = time.monotonic()
        assert server.stop() == 0, server.log()
        load.stop()
    assert not load.errors, load.errors
    assert not (keep_alive and load.lost and min(load.lost.values()) < begun), f"{load.lost}; the stop began at {begun}"
    stored = {order for (order,) in execute(database, "SELECT order_id FROM assigned_order")}
    assert stored == set(load.created)


def connections_of(pid: int) -> int:
    """Return how many TCP connections a process has open."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED for connection in psutil.Process(pid).net_connections("tcp")
    )


def test_the_workers_share_a_burst_of_connections(database: Path) -> None:
    """Each of two workers accepts a part of a burst of connections."""
    with ServerProcess("--workers", "2", database=database) as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        bursts: list[list[int]] = []
        # The system decides which worker runs. So one worker may accept a whole burst, but not ten in a row.
        while len(bursts) < 10 and not (bursts and min(bursts[-1]) >= 6):
            with ExitStack() as crowd:
                for _ in range(60):
                    crowd.enter_context(server.connect())
                wait_until(lambda: sum(map(connections_of, workers)) == 60, "all connections are accepted")
                bursts.append([connections_of(worker) for worker in workers])
            wait_until(lambda: sum(map(connections_of, workers)) == 0, "all connections are closed")
        assert min(bursts[-1]) >= 6, f"connections per worker, for each burst: {bursts}"


async def app_with(answer: Response, contract: Contract) -> App:
    """Return an app that answers every request with `answer`. Its orders are closed already."""

    async def handle(request: Request) -> Response:
        return answer

    orders = Orders(DatabaseURL.parse("sqlite:///:memory:"))
    await orders.close()
    app = App(contract, orders)
    app.handler = handle
    return app


def test_servers_on_one_socket_take_turns(contract: Contract) -> None:
    """Two servers that may accept one connection at a time share the waiting connections equally."""

    async def scenario() -> list[bytes]:
        [listener] = listen("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with ExitStack() as crowd:
            clients = [crowd.enter_context(socket.create_connection(listener.getsockname())) for _ in range(10)]
            servers = [
                Server(await app_with(answer, contract), [own], idle_timeout_s=30, accept_at_once=1)
                for own, answer in [(listener.dup(), message_response(404, "")), (listener, message_response(400, ""))]
            ]
            for client in clients:
                client.setblocking(False)
                client.sendall(REQUEST)
            answers = [await loop.sock_recv(client, 1000) for client in clients]
            for server in servers:
                await server.stop(quiet_s=0)
        return answers

    answers = asyncio.run(scenario())
    assert sum(b" 404 " in answer for answer in answers) == 5, answers
    assert sum(b" 400 " in answer for answer in answers) == 5, answers


def test_a_stop_does_not_wait_for_idle_connections(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop ends even if some connections have sent nothing, or half a request."""
    monkeypatch.setattr("orders.server.connections.STOP_TIMEOUT_S", 3600.0)

    async def scenario() -> None:
        listeners = listen("127.0.0.1", 0)
        server = Server(await app_with(message_response(404, ""), contract), listeners, idle_timeout_s=3600)
        with ExitStack() as clients:
            address = listeners[0].getsockname()
            connections = [clients.enter_context(socket.create_connection(address)) for _ in range(5)]
            connections[0].sendall(b"GET /heal")
            await asyncio.sleep(0.1)
            await server.stop(quiet_s=0)

    asyncio.run(asyncio.wait_for(scenario(), timeout=60))


def test_a_stop_answers_the_latest_requests(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop answers requests sent just before it, on old and new connections, and requests sent during it.

    The response to a request that is sent during the stop says `Connection: close`.
    """
    monkeypatch.setattr("orders.server.connections.STOP_TIMEOUT_S", 60.0)

    async def scenario() -> list[bytes]:
        listeners = listen("127.0.0.1", 0)
        app = await app_with(message_response(404, ""), contract)
        server = Server(app, listeners, idle_timeout_s=60)
        address = listeners[0].getsockname()
        loop = asyncio.get_running_loop()
        with ExitStack() as clients:

            def connect() -> socket.socket:
                connection = clients.enter_context(socket.create_connection(address))
                connection.setblocking(False)
                return connection

            old, idle, unfinished = connect(), connect(), connect()
            unfinished.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
            while app.in_flight.quiet_s() > 0:
                await asyncio.sleep(0.01)
            new = connect()
            for connection in (old, new):
                connection.sendall(REQUEST)
            # The stop goes on until the unfinished request is answered.
            stop = asyncio.create_task(server.stop(quiet_s=0.0))
            answers = [await loop.sock_recv(connection, 1000) for connection in (old, new)]
            idle.sendall(REQUEST)
            answers.append(await loop.sock_recv(idle, 1000))
            unfinished.sendall(b"x")
            await stop
            return answers

    answers = asyncio.run(scenario())
    assert all(b"404 Not Found" in answer for answer in answers), answers
    assert b"Connection: close" in answers[-1], answers


def test_a_worker_that_dies_is_replaced(database: Path) -> None:
    """When a worker is killed, the others keep serving, and another worker is started in its place."""
    with ServerProcess("--workers", "2", database=database) as server:
        before = children(server.process.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(children(server.process.pid)) - {before[0]}) == 2, "there are two workers again")
        wait_until(lambda: "starting another" in server.log(), "the log says that another worker starts")
        for n in range(20):
            with Client(server.url) as client:
                assert message(client.acquire(f"executor-{n}")) == NO_ORDERS
        assert server.stop() == 0, server.log()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_worker_shuts_nobody_out(database: Path, signal_number: signal.Signals) -> None:
    """A worker that is told to stop is replaced. New clients are served all the time."""
    with ServerProcess("--workers", "2", database=database) as server:
        before = children(server.process.pid)
        os.kill(before[0], signal_number)
        wait_until(lambda: serves(server) and before[0] not in children(server.process.pid), "the worker has ended")
        wait_until(lambda: serves(server) and len(children(server.process.pid)) == 2, "there is another worker")
        assert server.stop() == 0, server.log()


def serves(server: ServerProcess) -> bool:
    """Return whether a new client gets an answer."""
    with Client(server.url) as client:
        return message(client.acquire("nobody")) == NO_ORDERS


def test_workers_do_not_outlive_their_parent(database: Path) -> None:
    """When only the parent is killed, each worker stops by itself, also while another one hangs. The port is free."""
    with ServerProcess("--workers", "3", database=database) as server:
        *others, hanging = children(server.process.pid)
        os.kill(hanging, signal.SIGSTOP)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(60)
        wait_until(lambda: not any(map(is_running, others)), "the other workers have ended")
        os.kill(hanging, signal.SIGCONT)
        wait_until(lambda: not is_running(hanging), "the worker that hung has ended")
        with pytest.raises(ConnectionRefusedError):
            server.connect()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_cannot_say_where_it_listens_exits_with_1(database: Path, workers: str) -> None:
    """If the first line cannot be written, the server says so in one line and leaves no process behind."""
    command = [
        sys.executable,
        "-m",
        "orders",
        "serve",
        "--port",
        "0",
        "--workers",
        workers,
        "--database",
        database_url(database),
    ]
    with open("/dev/full", "w") as full, start(command, stdout=full) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1, errors
        assert errors == "orders: cannot write to standard output: No space left on device\n"
        assert not end_group(process.pid), "a process is left"


def test_two_servers_share_a_database(database: Path) -> None:
    """Servers on one SQLite file serve the same orders (D12)."""
    with (
        ServerProcess(database=database) as one,
        ServerProcess("--workers", "2", database=database) as other,
        Client(one.url) as at_one,
        Client(other.url) as at_other,
    ):
        assert message(at_one.assign("order", "executor")) == CREATED
        assert at_other.assign("order", "other").status_code == 400
        assert at_other.acquire("executor").content == at_one.acquire("executor").content


def test_orders_survive_a_restart(database: Path) -> None:
    """A server that is stopped and started again still has its orders (D13)."""
    with ServerProcess(database=database) as server, Client(server.url) as client:
        client.assign("order", "executor")
        before = client.acquire("executor").content
        server.stop()
    with ServerProcess(database=database) as server, Client(server.url) as client:
        assert client.acquire("executor").content == before
        assert client.assign("order", "executor").status_code == 400


def test_orders_in_memory_end_with_the_server(tmp_path: Path) -> None:
    """With `:memory:`, the server writes no file, and has no orders when it is started again."""
    for _ in range(2):
        with ServerProcess("--database", "sqlite:///:memory:", cwd=tmp_path) as server, Client(server.url) as client:
            assert message(client.assign("order", "executor")) == CREATED
            assert client.acquire("executor").json()["order_profile"]["order_id"] == "order"
            server.stop()
    assert not list(tmp_path.iterdir())


def test_the_server_raises_its_limit_of_open_files(database: Path) -> None:
    """The server accepts more connections than the shell's soft limit of open files allows."""
    with ServerProcess(database=database, wrapper=["sh", "-c", 'ulimit -S -n 64; exec "$0" "$@"']) as server:
        connections = [server.connect() for _ in range(200)]
        with Client(server.url) as client:
            assert client.http.get("/health").status_code == 200
        for connection in connections:
            connection.close()
