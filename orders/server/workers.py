"""Runs several processes on the same listening sockets and one database.

The parent serves no requests. It starts the workers and waits until all of them are ready. It replaces a worker that
ends, and stops the workers on SIGTERM and SIGINT. A worker whose parent is gone stops by itself
(`orders.server.serve`).
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

logger = logging.getLogger("orders")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
RESTART_PAUSE_S = 0.5

# Serves until it is told to stop. The arguments are a function to call when it is ready, and a file descriptor that
# becomes readable when the parent is gone.
Work = Callable[[Callable[[], None], int], None]


class WorkerFailed(Exception):
    """A worker ended before it was ready."""


class Workers:
    """The worker processes of one server."""

    def __init__(self, count: int, work: Work, listeners: list[socket.socket]) -> None:
        """Start `count` processes that run `work`, and wait until all are ready.

        If a process fails to start, all are stopped. Raises WorkerFailed.
        """
        self._work = work
        self._listeners = listeners
        self._context = multiprocessing.get_context("fork")
        self._processes: list[BaseProcess] = []
        self._stopping = False
        # Only the parent has the writing end, so the reading end tells all workers at once that the parent is gone.
        self._parent_gone, self._parent_lives = os.pipe()
        for signal_number in SIGNALS:
            signal.signal(signal_number, lambda *_: self.stop())
        starting = [self._start() for _ in range(count)]
        try:
            for process, ready in starting:
                self._wait_until_ready(process, ready)
        except WorkerFailed:
            self.end()
            raise

    def end(self) -> None:
        """Stop the workers, and wait until they have ended."""
        self.stop()
        for process in self._processes:
            process.join()

    def stop(self) -> None:
        """Tell the workers to stop."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        for process in self._processes:
            process.terminate()

    def watch(self) -> None:
        """Replace workers that end, until `stop` has ended all of them."""
        while self._processes:
            ended = wait([process.sentinel for process in self._processes])
            for process in [process for process in self._processes if process.sentinel in ended]:
                process.join()
                self._processes.remove(process)
                if not self._stopping:
                    logger.error("worker %s ended with exit code %s; starting another", process.pid, process.exitcode)
                    self._replace()

    def _replace(self) -> None:
        # The pause keeps workers that always die from using up the machine.
        while not self._stopping:
            time.sleep(RESTART_PAUSE_S)
            try:
                self._wait_until_ready(*self._start())
                return
            except (WorkerFailed, OSError) as error:
                logger.error("cannot start a worker: %s", error)

    def _start(self) -> tuple[BaseProcess, Connection]:
        ready, is_ready = self._context.Pipe(duplex=False)
        process = self._context.Process(target=self._run, args=(is_ready,), name="orders-worker")
        # Signals are blocked during the fork. Otherwise the worker could handle one with its parent's handler.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        is_ready.close()
        self._processes.append(process)
        if self._stopping:
            process.terminate()
        return process, ready

    def _run(self, is_ready: Connection) -> None:
        # The fork copied the parent's handlers. Until the worker has handlers of its own, a signal just ends it.
        for signal_number in SIGNALS:
            signal.signal(signal_number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.close(self._parent_lives)

        def report(problem: str | None) -> None:
            is_ready.send(problem)
            is_ready.close()

        try:
            self._work(lambda: report(None), self._parent_gone)
        except Exception as error:
            if is_ready.closed:
                raise
            report(str(error))
            sys.exit(1)

    def _wait_until_ready(self, process: BaseProcess, ready: Connection) -> None:
        """Wait until a worker is ready or told to stop. Raises WorkerFailed, with the worker's message if any."""
        with ready:
            try:
                problem = ready.recv()
            except EOFError:
                problem = f"worker {process.pid} ended before it was ready"
        if problem is not None and not self._stopping:
            self._processes.remove(process)
            process.join()
            raise WorkerFailed(problem)
