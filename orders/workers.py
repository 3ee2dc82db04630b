"""Several processes on the same listening sockets and one database.

The parent only watches: it starts the workers, says when all of them answer, replaces one that dies, and hands
SIGTERM and SIGINT on. A worker whose parent is gone stops by itself (`orders.server.serve`).
"""

import logging
import multiprocessing
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

logger = logging.getLogger("orders")

Work = Callable[[Callable[[], None]], None]


class WorkerFailed(Exception):
    """A worker ended before it was ready."""


class Workers:
    """The worker processes of one server."""

    def __init__(self, count: int, work: Work, listeners: list[socket.socket]) -> None:
        """Start `count` processes that run `work`, which is passed what to call when it is ready.

        Raises WorkerFailed, having stopped all of them, if one does not come up.
        """
        self._work = work
        self._listeners = listeners
        self._context = multiprocessing.get_context("fork")
        self._processes: list[BaseProcess] = []
        self._stopping = False
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, lambda *_: self.stop())
        starting = [self._start() for _ in range(count)]
        for process, ready in starting:
            self._wait_until_ready(process, ready)

    def stop(self) -> None:
        """Tell the workers to stop."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        for process in self._processes:
            process.terminate()

    def watch(self) -> None:
        """Replace workers that die, until all have ended because of `stop`.

        Raises WorkerFailed, having stopped the others, if a replacement does not come up.
        """
        while self._processes:
            ended = wait([process.sentinel for process in self._processes])
            for process in [process for process in self._processes if process.sentinel in ended]:
                process.join()
                self._processes.remove(process)
                if not self._stopping:
                    logger.error("worker %s ended with exit code %s; starting another", process.pid, process.exitcode)
                    self._wait_until_ready(*self._start())

    def _start(self) -> tuple[BaseProcess, Connection]:
        ready, is_ready = self._context.Pipe(duplex=False)
        process = self._context.Process(target=self._run, args=(is_ready,), name="orders-worker")
        process.start()
        is_ready.close()
        self._processes.append(process)
        if self._stopping:
            process.terminate()
        return process, ready

    def _run(self, is_ready: Connection) -> None:
        # The parent's handlers came along with the fork; until the worker has its own, it just ends.
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, signal.SIG_DFL)
        try:
            self._work(lambda: is_ready.send(True))
        except Exception as error:
            print(f"orders: {error}", file=sys.stderr)
            sys.exit(1)

    def _wait_until_ready(self, process: BaseProcess, ready: Connection) -> None:
        try:
            ready.recv()
        except EOFError:
            if not self._stopping:
                self.stop()
                for other in self._processes:
                    other.join()
                raise WorkerFailed(f"worker {process.pid} ended before it was ready") from None
        finally:
            ready.close()
