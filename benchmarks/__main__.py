"""`python -m benchmarks`: measures the server and others, prints tables, and writes JSON and charts.

Exit codes:

0    everything was measured; the peer in Go is left out if Go is missing
1    wrk is missing, a server could not be started, answered wrongly, or failed requests
130  interrupted
143  terminated
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.charts import draw
from benchmarks.measure import GROWTH, SERVERS, Settings, WrongAnswer, measure
from benchmarks.report import failures, step_table, tables, to_json, write_tables
from benchmarks.servers import OPTIONAL, CannotStart
from benchmarks.wrk import WrkFailed, check_wrk

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return the exit code."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {text}", flush=True)

    try:
        check_wrk()
        results = measure(settings(options), log)
    except (WrkFailed, WrongAnswer, CannotStart) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    text = tables(results)
    print(f"\n{text}")
    if options.json:
        options.json.write_text(json.dumps(to_json(results), indent=1) + "\n")
    if options.charts:
        draw(results, options.charts)
    if options.readme:
        write_tables(options.readme, text)
    if options.steps:
        write_tables(options.steps, step_table(results))
    return 1 if results.left_out.keys() - OPTIONAL or failures(results) else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks",
        description="Measure the server and others. A full run replaces results.json, the charts, and the tables in"
        " benchmarks/README.md and deploy/README.md. A run with --quick or --only writes only to the given paths.",
    )
    parser.add_argument("--rounds", type=int, help="how often each phase is measured on each server (default: 5)")
    parser.add_argument("--seconds", type=int, help="the length of a phase, in whole seconds (default: 5)")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=[*SERVERS, *GROWTH],
        help=f"measure only this; may be repeated: {', '.join([*SERVERS, *GROWTH])}",
    )
    parser.add_argument("--quick", action="store_true", help="one short round on few orders, to try everything out")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write all measurements")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="where to draw the charts")
    parser.add_argument("--readme", type=Path, metavar="PATH", help="the page whose tables to replace")
    parser.add_argument("--steps", type=Path, metavar="PATH", help="the page whose table of steps to replace")
    options = parser.parse_args(argv)
    if not options.quick and not options.only:
        options.json = options.json or HERE / "results.json"
        options.charts = options.charts or HERE / "charts"
        options.readme = options.readme or HERE / "README.md"
        options.steps = options.steps or HERE.parent / "deploy" / "README.md"
    return options


def settings(options: argparse.Namespace) -> Settings:
    """Return the settings that the options ask for."""
    names = options.only or [*SERVERS, *GROWTH]
    defaults = Settings(names=names)
    if options.quick:
        defaults = Settings(names=names, rounds=1, seconds=1, warm_up_s=0, stored=1_000, growth=(1_000, 2_000))
    return replace(defaults, rounds=options.rounds or defaults.rounds, seconds=options.seconds or defaults.seconds)


if __name__ == "__main__":
    sys.exit(main())
