"""Runs nginx with deploy/nginx.conf in front of servers, on a free port."""

import re
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.guard import DIRECTORY, guard, release
from harness.postgresql import free_port
from harness.processes import end_group, start
from harness.programs import require_program
from harness.server import is_listening

ROOT = Path(__file__).parent.parent
CONFIGURATION = ROOT / "deploy" / "nginx.conf"
START_TIMEOUT_S = 20


def configuration(servers: Sequence[tuple[str, int]], address: tuple[str, int], directory: Path) -> str:
    """Return deploy/nginx.conf for these servers. nginx listens on `address` and keeps its files in `directory`."""
    text = CONFIGURATION.read_text()
    server = re.compile(r"^( *server) [\d.]+:\d+( .*;)\n", re.MULTILINE)
    first = server.search(text)
    assert first, f"{CONFIGURATION} has no servers"
    lines = "".join("{} {}:{}{}\n".format(first[1], *backend, first[2]) for backend in servers)
    text = text[: first.start()] + lines + server.sub("", text[first.end() :])
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary_paths = "".join(f"    {kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    for old, new in {
        "listen 80 ": "listen {}:{} ".format(*address),
        "/var/log/nginx": str(directory),
        "http {\n": "http {\n" + temporary_paths,
    }.items():
        assert text.count(old) >= 1, f"{CONFIGURATION} has no {old!r}"
        text = text.replace(old, new)
    return text


class Nginx:
    """nginx with deploy/nginx.conf; only the addresses and directories differ."""

    def __init__(self, servers: Sequence[tuple[str, int]]) -> None:
        """Start nginx in front of `servers` and wait until it listens. Skip the test if nginx is not installed."""
        program = require_program("nginx")
        self.address = ("127.0.0.1", free_port())
        self.url = "http://{}:{}".format(*self.address)
        self._files = tempfile.TemporaryDirectory(prefix="orders-nginx-")
        self._directory = Path(self._files.name)
        # nginx's workers drop root's rights, but still need to enter the directory.
        self._directory.chmod(0o755)
        guard(DIRECTORY, self._directory)
        (self._directory / "nginx.conf").write_text(configuration(servers, self.address, self._directory))
        with open(self._directory / "stderr", "w") as stderr:
            self._process = start(
                [
                    program,
                    *("-e", self._directory / "error.log"),
                    *("-c", self._directory / "nginx.conf"),
                    *("-g", f"daemon off; pid {self._directory}/nginx.pid;"),
                ],
                stdout=None,
                stderr=stderr,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_listening(self.url):
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def connect(self) -> socket.socket:
        """Open a connection to nginx."""
        return socket.create_connection(self.address, timeout=20)

    @property
    def pid(self) -> int:
        """The process id of nginx's master, the parent of its workers."""
        return self._process.pid

    def log(self) -> str:
        """Return nginx's error messages."""
        files = [self._directory / name for name in ("stderr", "error.log")]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def close(self) -> None:
        """Stop nginx and delete its files."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        end_group(self._process.pid)
        self._files.cleanup()
        release(DIRECTORY, self._directory)

    def __enter__(self) -> "Nginx":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
