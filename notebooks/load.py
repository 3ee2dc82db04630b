"""What the notebook about load needs: servers in processes of their own, and a client that costs little.

A load generator that needs more CPU than the server would measure itself. So the client keeps its connections open,
writes a request as one line and one header, and understands no more of HTTP than this server's answers need.
"""

import asyncio
import itertools
import json
import random
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from harness.server import ServerProcess

_numbers = itertools.count(1)


class Connection:
    """A connection that stays open."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use the streams of a connection to `host`."""
        self._host = host
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> "Connection":
        """Connect to a server."""
        parts = urlsplit(url)
        return cls(parts.netloc, *await asyncio.open_connection(parts.hostname, parts.port))

    async def call(self, method: str, path: str, **parameters: str) -> tuple[int, dict[str, Any]]:
        """Send a request; return the status and the JSON of its answer. Raises OSError or EOFError if there is none."""
        self._writer.write(f"{method} {path}?{urlencode(parameters)} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        return int(head[9:12]), json.loads(await self._reader.readexactly(length))

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """Open connections to a server, and close them when the block ends."""
    opened: list[Connection] = []
    try:
        for _ in range(count):
            opened.append(await Connection.open(url))
        yield opened
    finally:
        for connection in opened:
            connection.close()


@asynccontextmanager
async def orders_serve(database: Path | str, *options: str) -> AsyncIterator[ServerProcess]:
    """Run `orders serve` on an SQLite file, or on the database of a URL, while the block runs."""
    # The clients go on while the server starts.
    with await asyncio.to_thread(ServerProcess, "--no-access-log", *options, database=database) as server:
        yield server


Request = Callable[[Connection, int], Awaitable[None]]


async def poll(connection: Connection, client: int) -> None:
    """Let an executor poll."""
    status, answer = await connection.call("GET", "/order/acquire", executor_id=f"executor-{client}")
    assert status == 200, answer


async def assign(connection: Connection, client: int) -> None:
    """Assign a new order to an executor."""
    status, answer = await _assign(connection, f"executor-{client}")
    assert status == 200, answer


async def _assign(connection: Connection, executor: str, order: str | None = None) -> tuple[int, dict[str, Any]]:
    order = order or f"order-{next(_numbers)}"
    return await connection.call("PUT", "/orders/assign", order_id=order, executor_id=executor, zone_id="zone-1")


@dataclass
class Loop:
    """What clients measured that sent request after request."""

    rate: float
    """Answers per second."""
    latencies_ms: list[float]
    client_share: float
    """How much of one core the clients used. Near 1, they measured themselves."""


async def closed_loop(url: str, clients: int, request: Request, seconds: float) -> Loop:
    """Let each client send its next request as soon as it has the last answer."""
    latencies_ms: list[float] = []

    async def client(connection: Connection, number: int) -> None:
        while (sent := time.perf_counter()) < begin + seconds:
            await request(connection, number)
            latencies_ms.append(1000 * (time.perf_counter() - sent))

    async with connections(url, clients) as opened:
        used, begin = time.process_time(), time.perf_counter()
        await asyncio.gather(*(client(connection, number) for number, connection in enumerate(opened)))
        elapsed = time.perf_counter() - begin
    return Loop(len(latencies_ms) / elapsed, latencies_ms, (time.process_time() - used) / elapsed)


async def side_by_side(urls: Mapping[str, str], rounds: int, *requests: Request) -> dict[tuple[str, Request], float]:
    """Put 32 clients on each server in turns; return how many times as fast it is as the first server.

    A disturbance affects all servers of a round, so each round has its own ratio. The result is the median.
    """
    rates: dict[tuple[str, Request], list[float]] = {(name, request): [] for request in requests for name in urls}
    for number in range(rounds):
        # Reverse the order in every second round, so that no server is always the first.
        for name, request in list(rates)[:: 1 if number % 2 == 0 else -1]:
            rates[name, request].append((await closed_loop(urls[name], 32, request, 0.25)).rate)
    first = next(iter(urls))
    return {
        (name, request): statistics.median(a / b for a, b in zip(each, rates[first, request], strict=True))
        for (name, request), each in rates.items()
    }


async def assigns_per_wait(file: Path, clients: int, assigns: int = 192) -> float:
    """Let clients assign orders on a new SQLite file; return how many assigns share one wait for the disk.

    SQLite first writes each transaction to the file `-wal`. A transaction ends with a frame whose second number is not
    zero (https://sqlite.org/fileformat2.html#the_write_ahead_log), and waits for the disk once. The assigns are so few
    that the server does not reuse a part of the file.
    """
    file = _new(file)
    async with orders_serve(file) as server, connections(server.url, clients) as opened:
        for _ in range(assigns // clients):
            await asyncio.gather(*(assign(connection, number) for number, connection in enumerate(opened)))
        wal = Path(f"{file}-wal").read_bytes()
    frame_size = 24 + int.from_bytes(wal[8:12], "big")
    return assigns / sum(any(wal[frame + 4 : frame + 8]) for frame in range(32, len(wal), frame_size))


def _new(file: Path) -> Path:
    """Return the name of a file that no cell has used, even if the same cell runs again."""
    return file.with_stem(f"{file.stem}-{next(_numbers)}")


@dataclass
class Fleet:
    """What a fleet saw."""

    found: dict[str, list[float]] = field(
        default_factory=lambda: {"no order": [], "the same order": [], "a new order": []}
    )
    """What polls found -> when they were sent, in seconds."""
    waits_s: list[float] = field(default_factory=list)
    """How long orders waited for the poll that found them."""


async def run_fleet(url: str, executors: int = 500, interval_s: float = 0.6, seconds: float = 4.8) -> Fleet:
    """Let executors poll on schedule, whether the server has time or not, and assign 100 orders per second."""
    fleet, chance = Fleet(), random.Random(6)
    assigned: dict[str, float] = {}
    names = [f"executor-{next(_numbers)}" for _ in range(executors)]

    async def executor(connection: Connection, number: int) -> None:
        held = None
        for turn in range(round(seconds / interval_s)):
            await asyncio.sleep(begin + interval_s * (turn + number / executors) - time.perf_counter())
            now = time.perf_counter()
            _, answer = await connection.call("GET", "/order/acquire", executor_id=names[number])
            order = answer.get("order_profile", {}).get("order_id")
            what = "no order" if order is None else "the same order" if order == held else "a new order"
            fleet.found[what].append(now - begin)
            if what == "a new order":
                fleet.waits_s.append(time.perf_counter() - assigned[order])
            held = order

    async def matcher(connection: Connection, number: int) -> None:
        for turn in range(round(10 * seconds)):
            await asyncio.sleep(begin + 0.1 * turn + 0.01 * number - time.perf_counter())
            order = f"order-{next(_numbers)}"
            assigned[order] = time.perf_counter()
            await _assign(connection, chance.choice(names), order)

    async with connections(url, executors + 10) as opened:
        begin = time.perf_counter() + 0.1
        matchers = [matcher(opened.pop(), number) for number in range(10)]
        await asyncio.gather(*matchers, *(executor(connection, number) for number, connection in enumerate(opened)))
    return fleet


@dataclass
class Crash:
    """What clients saw of a server that was killed, and what is stored."""

    answered: dict[str, int]
    """Order -> the status of the answer to its assign."""
    answers_s: list[float]
    """When the answers came, in seconds after the kill."""
    ready_s: float
    """When the server was ready again."""
    stored: Counter[str]
    """Order -> the number of its rows."""


async def kill_in_the_middle(file: Path, clients: int = 16, each: int = 200) -> Crash:
    """Let clients assign orders, kill the server with SIGKILL halfway, and start it again on the same port and file.

    A client whose answer is lost sends the same request again until it is answered, every 10 ms to measure the gap.
    """
    file = _new(file)
    answered: dict[str, int] = {}
    times: list[float] = []

    async def client(number: int) -> None:
        connection = None
        for order in [f"order-{number}-{n}" for n in range(each)]:
            while order not in answered:
                try:
                    connection = connection or await Connection.open(url)
                    answered[order], _ = await _assign(connection, f"executor-{number}", order)
                    times.append(time.perf_counter())
                except (OSError, EOFError):
                    if connection:
                        connection.close()
                    connection = None
                    await asyncio.sleep(0.01)
        if connection:
            connection.close()

    async with asyncio.TaskGroup() as tasks:
        async with orders_serve(file) as server:
            url = server.url
            running = [tasks.create_task(client(number)) for number in range(clients)]
            while len(answered) < clients * each / 2:
                await asyncio.sleep(0.001)
            server.kill()
            killed = time.perf_counter()
        async with orders_serve(file, "--port", str(server.address[1])):
            ready = time.perf_counter()
            await asyncio.gather(*running)
    with closing(sqlite3.connect(file)) as database:
        stored = Counter(order for (order,) in database.execute("SELECT order_id FROM assigned_order"))
    return Crash(answered, [moment - killed for moment in times], ready - killed, stored)
