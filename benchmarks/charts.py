"""Draws the charts as SVG that is readable on light and dark pages."""

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from benchmarks.measure import Results, Series
from benchmarks.report import database_of, value
from benchmarks.servers import COMPARISON, STEPS
from benchmarks.wrk import PHASES

# Stands for the colour of text and lines, which depends on the reader's colour scheme.
INK = "#010203"
# Each chart has its own background, so that it can be read on any page.
CARD = """
 <style>
  svg { --card: #ffffff; --ink: #4b5560 }
  @media (prefers-color-scheme: dark) { svg { --card: #151b23; --ink: #b4bcc6 } }
 </style>
 <rect width="100%" height="100%" rx="8" style="fill: var(--card)"/>
"""
OURS, THEIRS = "#2f81d6", "#a9763a"
PERCENTILES = {"p50_ms": ("p50", "o"), "p99_ms": ("p99", "D"), "p999_ms": ("p99.9", "s")}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.3,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "svg.fonttype": "none",
    # Without a fixed salt, the same results would not give the same file.
    "svg.hashsalt": "orders",
}


def draw(results: Results, directory: Path) -> None:
    """Draw every chart for which there are results."""
    directory.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for suffix, names in (("", COMPARISON), ("-steps", STEPS)):
            if servers := {name: results.servers[name] for name in names if name in results.servers}:
                throughput = phase_bars(servers, "throughput", "requests per second: more is better")
                save(throughput, directory / f"throughput{suffix}.svg")
                save(latencies(servers), directory / f"latency{suffix}.svg")
        if servers := {name: results.servers[name] for name in COMPARISON if name in results.servers}:
            save(speed(servers), directory / "speed.svg")
            save(phase_bars(servers, "cpu_us", "µs of CPU per request: less is better"), directory / "cpu.svg")
            save(start_and_memory(servers), directory / "start-and-memory.svg")
        if results.growth:
            save(growth(results), directory / "growth.svg")


def phase_bars(servers: Mapping[str, Series], metric: str, label: str) -> Figure:
    """Draw a metric with one panel per phase and one bar per server."""
    figure, panels = panels_for(servers, len(PHASES))
    for panel, phase in zip(panels, PHASES, strict=True):
        bars(panel, phase, servers, [value(series, phase, metric) for series in servers.values()], "{:,.0f}")
    figure.supxlabel(label, fontsize="medium")
    return figure


def speed(servers: Mapping[str, Series]) -> Figure:
    """Draw the throughput under the expected load, for README.md."""
    figure, (panel,) = panels_for(servers, 1)
    bars(
        panel,
        "requests per second",
        servers,
        [value(series, "mix", "throughput") for series in servers.values()],
        "{:,.0f}",
    )
    figure.supxlabel("8,334 acquires to 100 assigns and 5 cancels, on 2 cores: more is better", fontsize="medium")
    return figure


def start_and_memory(servers: Mapping[str, Series]) -> Figure:
    """Draw the time to the first answer and the memory, each with one bar per server."""
    figure, panels = panels_for(servers, 2)
    starts = [median(series.first_answer_s) for series in servers.values()]
    memory = [median(series.memory_bytes) / 2**20 for series in servers.values()]
    bars(panels[0], "seconds to the first answer", servers, starts, "{:.2f}")
    bars(panels[1], "memory under load, MiB", servers, memory, "{:,.0f}")
    figure.supxlabel("less is better", fontsize="medium")
    return figure


def latencies(servers: Mapping[str, Series]) -> Figure:
    """Draw the percentiles of the latency with one panel per phase and one line per server."""
    figure, panels = panels_for(servers, len(PHASES))
    for panel, phase in zip(panels, PHASES, strict=True):
        for row, (name, series) in enumerate(servers.items()):
            points = [value(series, phase, metric) for metric in PERCENTILES]
            panel.plot(points, [row] * len(points), color=colour(name), linewidth=1)
            for point, (_, marker) in zip(points, PERCENTILES.values(), strict=True):
                panel.plot(point, row, marker, color=colour(name), markersize=5)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(axis="x")
        panel.set_title(phase)
    marks = [Line2D([], [], color=INK, marker=marker, linestyle="") for _, marker in PERCENTILES.values()]
    labels = [label for label, _ in PERCENTILES.values()]
    figure.legend(marks, labels, loc="outside upper right", ncols=len(marks), frameon=False)
    figure.supxlabel("ms with 32 clients: less is better", fontsize="medium")
    return figure


def growth(results: Results) -> Figure:
    """Draw the CPU time per request against the number of stored orders."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(results.growth), sharey=True, squeeze=False)[0]
    for panel, (name, sizes) in zip(panels, results.growth.items(), strict=True):
        for phase, marker, hue in zip(PHASES, "oDs", (OURS, THEIRS, INK), strict=True):
            figures = [value(series, phase, "cpu_us") for series in sizes.values()]
            panel.plot(list(sizes), figures, color=hue, marker=marker, label=phase)
        panel.set_xscale("log")
        panel.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
        panel.minorticks_off()
        panel.grid(axis="y")
        panel.set_title(database_of(name))
    # The panels share this axis. Set its limit last, because a limit stops the axis from growing.
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("µs of CPU per request")
    panels[-1].legend(frameon=False)
    figure.supxlabel("stored orders", fontsize="medium")
    return figure


def panels_for(servers: Mapping[str, Series], count: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with `count` panels side by side. Each panel has one row per server."""
    figure = Figure(figsize=(5 + 2 * count, 1.3 + 0.32 * len(servers)), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    panels[0].set_yticks(range(len(servers)), [series.title for series in servers.values()])
    panels[0].set_ylim(len(servers) - 0.5, -0.5)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
    return figure, panels


def bars(panel: Axes, title: str, servers: Mapping[str, Series], values: Sequence[float], form: str) -> None:
    """Draw one bar per server, labelled with its value."""
    drawn = panel.barh(range(len(values)), values, color=[colour(name) for name in servers], height=0.65)
    panel.bar_label(drawn, [form.format(value) for value in values], padding=3)
    panel.margins(x=0.25)
    panel.set_xticks([])
    panel.spines["bottom"].set_visible(False)
    panel.set_title(title)


def colour(name: str) -> str:
    """Return the colour of a server. Our servers have their own colour."""
    return OURS if name.startswith("orders") else THEIRS


def save(figure: Figure, path: Path) -> None:
    """Write a figure with a background, in the colours of the reader's scheme, and without the date."""
    with StringIO() as file:
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        drawn = file.getvalue()
    path.write_text(drawn.replace(INK, "var(--ink)").replace("\n <defs>", f"{CARD} <defs>", 1))
