"""The servers under test, and the faults that disturb them. Each fault lasts for a block, and is mended at its end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from random import Random

from harness.disk import filled
from harness.postgresql import PostgreSQL
from harness.processes import children
from harness.server import ServerProcess

WORKERS = 2
# A stop waits for clients and for the database, and a busy machine takes its time.
STOP_TIMEOUT_S = 60


class System:
    """Servers on one database. `database` is its URL; the rest depends on its kind."""

    def __init__(
        self, database: str, *, servers: int, disk: Path | None = None, postgresql: PostgreSQL | None = None
    ) -> None:
        """Start the servers. `disk` is the small disk of an SQLite file, if it has one."""
        self.kind = "PostgreSQL" if postgresql else "SQLite"
        self.database = database
        self.disk = disk
        self.postgresql = postgresql
        self.servers = [self._start() for _ in range(servers)]

    def address(self, random: Random) -> tuple[str, int]:
        """Return the address of one of the servers."""
        return random.choice(self.servers).address

    def faults(self) -> list["Fault"]:
        """Return the faults that can disturb these servers."""
        if self.postgresql:
            return [*PROCESS_FAULTS, *POSTGRESQL_FAULTS]
        return [*PROCESS_FAULTS, *(fault for fault in SQLITE_FAULTS if self.disk or fault is not fill_disk)]

    def stop(self, server: ServerProcess) -> None:
        """Stop a server with SIGTERM, as its users do."""
        server.process.terminate()
        code = server.process.wait(STOP_TIMEOUT_S)
        assert code == 0, f"exit code {code} after SIGTERM: {server.log()[-3000:]}"

    def replace(self, server: ServerProcess) -> None:
        """Start a server in the place of one that has ended."""
        with server:
            self.servers[self.servers.index(server)] = self._start()

    def close(self) -> None:
        """End all processes of the servers."""
        for server in self.servers:
            server.__exit__()

    def _start(self) -> ServerProcess:
        return ServerProcess("--workers", str(WORKERS), "--no-access-log", database=self.database)


Fault = Callable[[System, Random], AbstractContextManager[None]]


@contextmanager
def kill_server(system: System, random: Random) -> Iterator[None]:
    """Kill all processes of a server at once; start it again at the end of the block."""
    server = random.choice(system.servers)
    server.kill()
    yield
    system.replace(server)


@contextmanager
def stop_server(system: System, random: Random) -> Iterator[None]:
    """Stop a server with SIGTERM; start it again at the end of the block."""
    server = random.choice(system.servers)
    system.stop(server)
    yield
    system.replace(server)


@contextmanager
def kill_worker(system: System, random: Random) -> Iterator[None]:
    """Kill a worker."""
    _signal_worker(system, random, signal.SIGKILL)
    yield


@contextmanager
def stop_worker(system: System, random: Random) -> Iterator[None]:
    """Stop a worker with SIGTERM, alone."""
    _signal_worker(system, random, signal.SIGTERM)
    yield


@contextmanager
def freeze_worker(system: System, random: Random) -> Iterator[None]:
    """Freeze a worker for the block."""
    worker = _signal_worker(system, random, signal.SIGSTOP)
    try:
        yield
    finally:
        if worker is not None:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


def _signal_worker(system: System, random: Random, signal_number: signal.Signals) -> int | None:
    """Send a signal to a random worker; return its process id, or None if its server is down."""
    with suppress(FileNotFoundError, ProcessLookupError):
        if workers := children(random.choice(system.servers).process.pid):
            worker = random.choice(workers)
            os.kill(worker, signal_number)
            return worker
    return None


@contextmanager
def fill_disk(system: System, random: Random) -> Iterator[None]:
    """Leave no room on the disk of the SQLite file for the block."""
    assert system.disk is not None
    with filled(system.disk):
        yield


@contextmanager
def rename_file(system: System, random: Random) -> Iterator[None]:
    """Give the SQLite file another name for the block."""
    file = Path(system.database.removeprefix("sqlite:///"))
    moved = file.rename(file.with_name("renamed.db"))
    try:
        yield
    finally:
        moved.replace(file)


@contextmanager
def stop_postgresql(system: System, random: Random) -> Iterator[None]:
    """Stop PostgreSQL without waiting for its clients; start it again at the end of the block."""
    assert system.postgresql is not None
    system.postgresql.stop()
    yield
    system.postgresql.start()


@contextmanager
def kill_postgresql(system: System, random: Random) -> Iterator[None]:
    """Kill all processes of PostgreSQL at once; start it again at the end of the block."""
    assert system.postgresql is not None
    system.postgresql.kill()
    yield
    system.postgresql.start()


@contextmanager
def freeze_postgresql(system: System, random: Random) -> Iterator[None]:
    """Freeze all processes of PostgreSQL for the block."""
    assert system.postgresql is not None
    system.postgresql.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        system.postgresql.signal(signal.SIGCONT)


@contextmanager
def cut_postgresql(system: System, random: Random) -> Iterator[None]:
    """Cut the servers' connections to PostgreSQL, several times."""
    assert system.postgresql is not None
    for _ in range(random.randrange(1, 6)):
        system.postgresql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orders'"
        )
        time.sleep(random.uniform(0, 0.3))
    yield


SERVER_FAULTS: tuple[Fault, ...] = (kill_server, stop_server)
WORKER_FAULTS: tuple[Fault, ...] = (kill_worker, stop_worker, freeze_worker)
SQLITE_FAULTS: tuple[Fault, ...] = (fill_disk, rename_file)
POSTGRESQL_FAULTS: tuple[Fault, ...] = (stop_postgresql, kill_postgresql, freeze_postgresql, cut_postgresql)
PROCESS_FAULTS = SERVER_FAULTS + WORKER_FAULTS
# If two faults happen together, the one that is earlier here begins first and ends last. So a server starts again when
# the database is back, and a worker is replaced while the database is away.
ALL_FAULTS = SERVER_FAULTS + SQLITE_FAULTS + POSTGRESQL_FAULTS + WORKER_FAULTS


def name_of(fault: Fault) -> str:
    """Return the name of a fault, for example "kill-worker"."""
    return str(getattr(fault, "__name__", fault)).replace("_", "-")
