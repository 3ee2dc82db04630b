"""Runs the server as its users do, in a separate process."""

import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from harness.processes import end_group, run, start

# So long that only what hangs takes longer, however busy the machine is.
TIMEOUT_S = 120


class ServerProcess:
    """`orders serve` on a free port, in its own process group."""

    def __init__(
        self, *options: str, database: Path | str | None = None, wrapper: Sequence[str] = (), cwd: Path | None = None
    ) -> None:
        """Start the server and wait for its readiness line. `wrapper` is put in front of the server's command."""
        arguments = ["--port", "0", *options]
        if database is not None:
            arguments += ["--database", database_url(database)]
        self.process = start([*wrapper, sys.executable, "-m", "orders", "serve", *arguments], cwd=cwd)
        self._log: list[str] = []
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        if not self.first_line.startswith("orders listening on http://"):
            self.__exit__()
            raise AssertionError(f"the server did not start: {self.first_line}{self.log()}")
        self.url = self.first_line.split()[-1]
        parts = urlsplit(self.url)
        assert parts.hostname and parts.port
        self.address = (parts.hostname, parts.port)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line)

    def log(self) -> str:
        """Return the server's standard error so far, or all of it if the server has ended."""
        if self.process.poll() is not None:
            self._log_reader.join(TIMEOUT_S)
        return "".join(self._log)

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Stop the server with a signal, as its users do; return its exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(TIMEOUT_S)

    def kill(self) -> None:
        """Kill all of the server's processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_S)

    def connect(self) -> socket.socket:
        """Open a connection to the server."""
        return socket.create_connection(self.address, timeout=TIMEOUT_S)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        end_group(self.process.pid)
        self.process.wait(TIMEOUT_S)
        self._log_reader.join(TIMEOUT_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@dataclass(frozen=True)
class Result:
    """The exit code of a command, its standard output and its standard error."""

    code: int
    output: str
    errors: str
    command: Sequence[str]


def run_orders(*arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> Result:
    """Run `orders` to its end; return its exit code and output."""
    command = [sys.executable, "-m", "orders", *arguments]
    ended = run(command, timeout_s=TIMEOUT_S, env={**os.environ, **(environment or {})}, cwd=cwd)
    return Result(ended.returncode, ended.stdout, ended.stderr, command)


def database_url(database: Path | str) -> str:
    """Return the URL of a database. `database` is the path of an SQLite file, or a URL."""
    return str(database) if "://" in str(database) else f"sqlite:///{database}"


def execute(database: Path | str, statement: str) -> list[Any]:
    """Execute a statement on a database, as another program would; return its rows."""
    url = database_url(database)
    if url.startswith("postgresql:"):
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def wait_until(condition: Callable[[], bool], description: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until `condition` returns True. After `timeout_s` seconds, fail with a message that has `description`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {description}"
        time.sleep(0.02)


def is_listening(url: str) -> bool:
    """Return whether a process on this machine accepts connections at the port of a URL."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", urlsplit(url).port)) == 0
