"""Logging to standard error, which never keeps the service waiting.

Lines are collected and written by a thread of their own: a terminal that is slow, or a pipe that nobody reads, holds
up the log and not the requests. When too many lines wait, further ones are dropped, and the log says how many.
"""

import logging
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

STDERR = 2
LEVELS = ("debug", "info", "warning", "error")
MAX_WAITING_LINES = 10_000
MAX_REQUEST_LENGTH = 1_000
WRITE_INTERVAL_S = 0.05

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    """Return `text` in ASCII, everything else escaped, so that input cannot forge or garble a line."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class LineWriter:
    """A queue of lines and the thread that writes them."""

    def __init__(self, file: int) -> None:
        """Write to a file descriptor: a stream's buffer would hold the process up when it ends and the pipe is full."""
        self._file = file
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._waiting = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="orders-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line. Returns at once."""
        if len(self._lines) >= MAX_WAITING_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._waiting.is_set():
            self._waiting.set()

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, for `timeout_s` seconds at most, and stop."""
        self._closing.set()
        self._waiting.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        reported = 0
        while not (self._closing.is_set() and not self._lines):
            self._waiting.wait()
            self._closing.wait(WRITE_INTERVAL_S)
            self._waiting.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if dropped := self._dropped - reported:
                reported += dropped
                lines.append(f"{timestamp()} WARNING orders: {dropped} log lines were dropped")
            try:
                for chunk in _chunks(lines):
                    self._write_all(chunk)
            except OSError:
                return  # Standard error is closed: there is nowhere to say so.

    def _write_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:
                select.select([], [self._file], [])


def _chunks(lines: Iterable[str]) -> Iterator[bytes]:
    """Join lines into pieces that a pipe takes whole, so that processes do not write into each other's lines."""
    chunk = b""
    for line in lines:
        data = f"{line}\n".encode()
        if chunk and len(chunk) + len(data) > select.PIPE_BUF:
            yield chunk
            chunk = b""
        chunk += data
    if chunk:
        yield chunk


def write_if_possible(line: str) -> None:
    """Write a line to standard error, or drop it if that would have to wait."""
    try:
        if select.select([], [STDERR], [], 0)[1]:
            os.write(STDERR, f"{line}\n".encode())
    except OSError:
        pass  # Standard error is closed: there is nowhere to say so.


class LineHandler(logging.Handler):
    """Turns log records into lines."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's lines, all but the first indented, so that none of them can pass for another record."""
        first, *rest = self.format(record).splitlines() or [""]
        text = "\n".join([printable(first), *(f"    {printable(line)}" for line in rest)])
        self._write(f"{timestamp()} {record.levelname} {record.name}: {text}")


class AccessLog:
    """One line a request: method, target, status, milliseconds, client."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def __call__(
        self, method: str, target: str, status: int | str, seconds: float, client: str, note: str = ""
    ) -> None:
        """Log one request and its answer, or what became of it without one; `note` is added to the line."""
        request = f"{method} {target}"
        if not request.isascii():
            request = printable(request)
        if len(request) > MAX_REQUEST_LENGTH:
            request = f"{request[:MAX_REQUEST_LENGTH]}..."
        self._write(f"{timestamp()} {request} {status} {seconds * 1000:.2f}ms {client}{note}")


def start_logging(level: str, write: Callable[[str], None]) -> None:
    """Send what this process logs, from `level` up, to `write`, a line at a time."""
    logging.basicConfig(level=level.upper(), handlers=[LineHandler(write)], force=True)


_second = 0
_timestamp = ""


def timestamp() -> str:
    """Return the time in UTC to the second, formatted once a second."""
    global _second, _timestamp
    now = int(time.time())
    if now != _second:
        _timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        _second = now
    return _timestamp
