"""Reports the results of a run as tables, as verdicts on the goals, and as JSON."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, Literal

from benchmarks.measure import Measurement, Results, Series
from benchmarks.servers import COMPARISON, STEPS
from benchmarks.wrk import PHASES

SMALLEST, LARGEST = 1_000, 1_000_000
BUSY_GENERATOR = 0.8
# For each of our servers, the largest CPU time per request, as a multiple of an empty Tornado handler's.
CPU_LIMITS = {
    "orders-postgresql": {"acquire": 1.4, "mix": 1.3, "assign": 2.0},
    "orders-sqlite": {"acquire": 1.1, "mix": 1.15, "assign": 1.6},
}
# The smallest throughput of two workers in the mix, as a multiple of one worker's and of the peer's in Go.
TWO_WORKERS = {"orders-postgresql": (1.5, 1.2), "orders-sqlite": (1.6, 1.7)}
RESULTS = re.compile(r"(<!-- results -->\n).*(<!-- end of results -->)", re.DOTALL)

Verdict = Literal["met", "missed", "not judged"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit that was set beforehand, the measured value, and the verdict."""

    what: str
    limit: str
    measured: float
    verdict: Verdict


def value(series: Series, phase: str, metric: str) -> float:
    """Return the median of a metric over the rounds."""
    return float(median(getattr(measurement, metric) for measurement in series.phases[phase]))


def ratio(series: Series, other: Series, phase: str, metric: str) -> float:
    """Return the median of the ratios in each round. A disturbed round disturbs both servers."""
    pairs = zip(series.phases[phase], other.phases[phase], strict=True)
    return float(median(getattr(one, metric) / getattr(two, metric) for one, two in pairs))


def goals(results: Results) -> list[Goal]:
    """Return the verdicts on the goals of the servers that were measured."""
    found: list[Goal] = []
    servers = results.servers
    ours = servers.get("orders-sqlite")

    def at_most(what: str, measured: float, limit: float) -> None:
        found.append(Goal(what, f"≤ {limit}", measured, "met" if measured <= limit else "missed"))

    def at_least(what: str, measured: float, limit: float, judged: bool = True) -> None:
        verdict: Verdict = "met" if measured >= limit else "missed"
        found.append(Goal(what, f"≥ {limit}", measured, verdict if judged else "not judged"))

    floor, go = servers.get("tornado"), servers.get("go")
    for name, limits in CPU_LIMITS.items():
        if floor and (series := servers.get(name)):
            for phase in PHASES:
                what = f"{phase}: CPU per request ÷ empty handler ({database_of(name)})"
                at_most(what, ratio(series, floor, phase, "cpu_us"), limits[phase])
    for name, peer, limit in (("orders-postgresql", go, 1), ("orders-sqlite", floor, 1.6)):
        if peer and (series := servers.get(name)):
            for phase in PHASES:
                what = f"{phase}: p99 ÷ {peer.title} ({database_of(name)})"
                at_most(what, ratio(series, peer, phase, "p99_ms"), limit)
    for name, (limit_one, limit_go) in TWO_WORKERS.items():
        two = servers.get(f"{name}-2")
        if two and (one := servers.get(name)):
            # With two cores, the second worker shares a core with the load generator.
            judged = int(results.machine["cores"]) >= 3
            what = f"mix: throughput of 2 workers ÷ 1 ({database_of(name)}{'' if judged else ', needs 3 cores'})"
            at_least(what, ratio(two, one, "mix", "throughput"), limit_one, judged)
        if two and go:
            what = f"mix: throughput of 2 workers ÷ {go.title} ({database_of(name)})"
            at_least(what, ratio(two, go, "mix", "throughput"), limit_go)
    for name, limit in (("fastapi", 6), ("flask", 2), ("prism", 1.7)):
        if ours and (peer := servers.get(name)):
            for phase in PHASES:
                what = f"{phase}: throughput ÷ {peer.title}"
                at_least(what, ratio(ours, peer, phase, "throughput"), limit)
    for name, sizes in results.growth.items():
        if SMALLEST in sizes and LARGEST in sizes:
            for phase in PHASES:
                what = f"{phase}: CPU per request, 1,000,000 stored orders ÷ 1,000 ({database_of(name)})"
                at_most(what, ratio(sizes[LARGEST], sizes[SMALLEST], phase, "cpu_us"), 1.1)
    if ours:
        at_most("seconds to the first answer", median(ours.first_answer_s), 0.35)
        for name in ("fastapi", "prism"):
            if peer := servers.get(name):
                pairs = zip(ours.first_answer_s, peer.first_answer_s, strict=True)
                at_most(f"time to the first answer ÷ {peer.title}", median(a / b for a, b in pairs), 1)
    return found


def warnings(results: Results) -> list[str]:
    """Return the reasons to doubt the figures."""
    found = []
    for title, series in all_series(results):
        for phase, measurements in series.phases.items():
            if errors := sum(measurement.errors for measurement in measurements):
                found.append(f"{title}, {phase}: {errors} requests failed")
            if measurements and (busy := value(series, phase, "generator_busy")) > BUSY_GENERATOR:
                found.append(f"{title}, {phase}: the load generator was busy for {busy:.0%} of the time")
    return found


def failures(results: Results) -> int:
    """Return the number of failed requests."""
    return sum(m.errors for _, series in all_series(results) for phase in series.phases.values() for m in phase)


def all_series(results: Results) -> Iterable[tuple[str, Series]]:
    """Return all series with their titles."""
    yield from ((series.title, series) for series in results.servers.values())
    for name, sizes in results.growth.items():
        yield from ((f"{database_of(name)}, {series.title}", series) for series in sizes.values())


def database_of(name: str) -> str:
    """Return the kind of database of our server, or group of growth measurements, called `name`."""
    return "SQLite" if "sqlite" in name else "PostgreSQL"


def tables(results: Results) -> str:
    """Return the results as Markdown with aligned tables."""
    machine, settings = results.machine, results.settings
    parts = [
        f"{results.when}: {machine['processor']}, {machine['cores']} cores, {machine['system']},"
        f" Python {machine['python']}; an fsync of 4 KiB takes {machine['fsync_ms']:.2f} ms."
        f" {settings.rounds} rounds, {settings.seconds} s per phase, {machine['connections']} connections,"
        f" {settings.stored:,} stored orders.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
    ]
    if judged := goals(results):
        parts += ["### Goals", goal_table(judged)]
    for heading, names in (("Comparison", COMPARISON), ("Deployment steps", STEPS)):
        if series := [results.servers[name] for name in names if name in results.servers]:
            parts += [f"### {heading}", *(f"{phase}:\n\n{phase_table(series, phase)}" for phase in PHASES)]
            parts += ["Start and memory:\n\n" + start_and_memory_table(series)]
    for name, sizes in results.growth.items():
        series = list(sizes.values())
        parts += [f"### Growth, {database_of(name)}"]
        parts += [*(f"{phase}:\n\n{phase_table(series, phase)}" for phase in PHASES), start_and_memory_table(series)]
    parts += [f"Left out: {reason}" for reason in results.left_out.values()]
    parts += [f"Note: {warning}." for warning in warnings(results)]
    return "\n\n".join(parts) + "\n"


def goal_table(judged: Sequence[Goal]) -> str:
    """Return a table of the goals."""
    rows = [[goal.what, goal.limit, f"{goal.measured:.2f}", goal.verdict] for goal in judged]
    return table(["goal", "limit", "measured", ""], rows)


def phase_table(servers: Sequence[Series], phase: str) -> str:
    """Return a table of the measurements of servers in a phase."""
    columns: list[tuple[str, str, Callable[[float], str]]] = [
        ("requests/s", "throughput", "{:,.0f}".format),
        ("CPU per request, µs", "cpu_us", "{:,.0f}".format),
        ("p50, ms", "p50_ms", "{:,.1f}".format),
        ("p99, ms", "p99_ms", "{:,.1f}".format),
        ("p99.9, ms", "p999_ms", "{:,.1f}".format),
    ]
    rows = [[series.title, *(show(value(series, phase, name)) for _, name, show in columns)] for series in servers]
    return table(["", *(heading for heading, _, _ in columns)], rows)


def start_and_memory_table(servers: Sequence[Series]) -> str:
    """Return a table of the time to the first answer and the memory of servers."""
    rows = [
        [series.title, f"{median(series.first_answer_s):.2f}", f"{median(series.memory_bytes) / 2**20:,.0f}"]
        for series in servers
    ]
    return table(["", "first answer, s", "memory, MiB"], rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table. All columns except the first have numbers."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(headings), rule, *map(line, rows)])


def step_table(results: Results) -> str:
    """Return the short table of deploy/README.md: the throughput and latency of each deployment step."""
    rows = []
    for name in STEPS:
        if series := results.servers.get(name):
            speeds = [f"{value(series, phase, 'throughput'):,.0f}" for phase in ("acquire", "mix", "assign")]
            times = [
                f"{value(series, phase, 'p50_ms'):.0f} / {value(series, phase, 'p99_ms'):.0f}"
                for phase in ("acquire", "mix", "assign")
            ]
            rows.append([series.title, *(cell for pair in zip(speeds, times, strict=True) for cell in pair)])
    phases = [heading for phase in ("acquires", "mix", "assigns") for heading in (f"{phase}/s", "ms")]
    return table(["", *phases], rows)


def to_json(results: Results) -> dict[str, Any]:
    """Return the results as JSON data: each round, the medians, the goals and the warnings."""
    return {
        **asdict(results),
        "servers": {name: series_to_json(series) for name, series in results.servers.items()},
        "growth": {
            name: {str(size): series_to_json(series) for size, series in sizes.items()}
            for name, sizes in results.growth.items()
        },
        "goals": [asdict(goal) for goal in goals(results)],
        "warnings": warnings(results),
    }


def series_to_json(series: Series) -> dict[str, Any]:
    """Return a server's measurements and their medians as JSON data."""
    return {
        "title": series.title,
        "first_answer_s": {"median": median(series.first_answer_s), "rounds": series.first_answer_s},
        "memory_bytes": {"median": median(series.memory_bytes), "rounds": series.memory_bytes},
        "phases": {
            phase: {
                "median": {name.name: value(series, phase, name.name) for name in fields(Measurement)},
                "rounds": [asdict(measurement) for measurement in measurements],
            }
            for phase, measurements in series.phases.items()
        },
    }


def write_tables(readme: Path, text: str) -> None:
    """Replace the text between the marks of a page. Raises ValueError if the page has no marks."""
    page, count = RESULTS.subn(lambda match: f"{match[1]}\n{text}\n{match[2]}", readme.read_text())
    if count != 1:
        raise ValueError(f"{readme} has no marks for the results")
    readme.write_text(page)
