"""Writes the log to standard error, without ever holding up a request.

While the server serves, a request only puts its line in a queue, and a thread writes what is in the queue. A slow
terminal, or a pipe that nobody reads, holds up that thread alone. Lines that find no room in the queue or in the file
are dropped. As soon as there is room, the log says how many are missing.
"""

import logging
import os
import re
import select
import time
from functools import lru_cache
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any

STDERR = 2
LEVELS = ("debug", "info", "warning", "error")
MAX_WAITING_RECORDS = 10_000
MAX_LINE_LENGTH = 4_092  # With "..." and its newline, a line fills PIPE_BUF of Linux.
PAUSE_S = 0.02
STOP_TIMEOUT_S = 1.0

_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e]")
_LONG_LINE = re.compile(rf"^(.{{{MAX_LINE_LENGTH}}}).+", re.MULTILINE)


class LogWriter(QueueListener):
    """Writes lines to a file: from a queue between `start` and `stop`, at once otherwise."""

    queue: SimpleQueue[Any]

    def __init__(self, file: int = STDERR) -> None:
        """Write to a file descriptor, not to a stream: a full pipe would keep the process from flushing and ending."""
        super().__init__(SimpleQueue())
        self._file = file
        self._is_cut = False
        # The number of missing lines is dropped + failed - reported. Only one thread changes each of the three.
        self._dropped = self._failed = self._reported = 0

    def stop(self) -> None:
        """Write what is in the queue, for at most STOP_TIMEOUT_S. Then say how many lines are missing, if any."""
        assert self._thread is not None
        self.enqueue_sentinel()
        self._thread.join(STOP_TIMEOUT_S)
        if not self._thread.is_alive():
            self._thread = None
            self._write("", wait=False)

    def log(self, text: str) -> None:
        """Log a text with the time. Returns at once."""
        self.add(as_lines(text))

    def add(self, lines: str) -> None:
        """Queue or write lines. Drop them if there is no room. Returns at once."""
        if self._thread is None:
            self._write(lines, wait=False)
        elif self.queue.qsize() < MAX_WAITING_RECORDS:
            self.queue.put(lines)
        else:
            self._dropped += lines.count("\n")

    def handle(self, record: Any) -> None:
        """Write what is in the queue, of which `record` is the first. Then pause: to wake for each line takes CPU."""
        records = [record, *(self.queue.get() for _ in range(self.queue.qsize()))]
        if None in records:
            records.remove(None)
            self.enqueue_sentinel()
        self._write("".join(records), wait=True)
        time.sleep(PAUSE_S)

    def _write(self, lines: str, *, wait: bool) -> None:
        """Write lines, after a note of how many are missing. Count the lines that there is no room for."""
        if missing := self._dropped + self._failed - self._reported:
            note = as_lines(f"WARNING orders: {missing} log lines are missing")
            if self._unwritten(f"\n{note}" if self._is_cut else note, wait) == 0:
                self._reported += missing
        self._failed += self._unwritten(lines, wait)

    def _unwritten(self, lines: str, wait: bool) -> int:
        """Write lines, and wait for a slow reader or not. Return how many are left because there is no room."""
        data = lines.encode()
        while data:
            # A pipe takes PIPE_BUF bytes in one piece, so processes do not write into each other's lines.
            end = data.rfind(b"\n", 0, select.PIPE_BUF) + 1 or select.PIPE_BUF
            try:
                if not select.select([], [self._file], [], None if wait else 0)[1]:
                    break
                written = os.write(self._file, data[:end])
            except BlockingIOError:
                continue  # Another process has taken the room.
            except OSError:
                break
            self._is_cut = data[written - 1 : written] != b"\n"
            data = data[written:]
        return data.count(b"\n")


class LogHandler(QueueHandler):
    """Hands records to a `LogWriter`."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(writer.queue)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._writer = writer

    def prepare(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return self.format(record)

    def enqueue(self, record: Any) -> None:
        """Hand over the text of a record."""
        self._writer.log(record)


def start_logging(level: str) -> LogWriter:
    """Log to standard error what this process logs from `level` up. Return the writer, to be started for serving."""
    writer = LogWriter()
    logging.basicConfig(level=level.upper(), handlers=[LogHandler(writer)], force=True)
    return writer


def as_lines(text: str) -> str:
    """Return a text as lines of the log that input cannot forge: the first has the time, the others are indented."""
    lines = printable(f"{timestamp(int(time.time()))} {text}").replace("\n", "\n    ")
    if len(lines) > MAX_LINE_LENGTH:
        lines = _LONG_LINE.sub(r"\1...", lines)
    return f"{lines}\n"


def printable(text: str) -> str:
    """Return a text with everything escaped that is neither printable ASCII nor the end of a line."""
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


@lru_cache(maxsize=1)
def timestamp(second: int) -> str:
    """Return a Unix time as RFC 3339 has it, in UTC. It is formatted once per second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
