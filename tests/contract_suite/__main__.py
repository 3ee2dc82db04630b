"""`python -m tests.contract_suite`: runs the whole suite on each planted fault, and prints which causes it names.

It takes about 25 minutes on two cores. With names of faults as arguments, it runs only on those. VERDICTS.md has the
last result.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory

from harness.processes import end_group, start
from tests.contract_suite.blame import BY_CHANCE, Named, named_causes, of_pairs, pairs, summary
from tests.contract_suite.runner import ROOT, LoadedSuite
from tests.faulty.faults import FAULTS, Fault


def run_all(chosen: Iterable[Sequence[Fault]]) -> Iterator[Named]:
    """Run the suite on servers with faults, on some at the same time; yield what it names."""
    suites: Queue[LoadedSuite] = Queue()
    # A run waits for half of its time.
    for _ in range(2 * (os.cpu_count() or 1)):
        suites.put(LoadedSuite())

    def check(faults: Sequence[Fault]) -> Named:
        suite = suites.get()
        # A process of its own, so that it does not slow down the server beside it.
        command = [sys.executable, "-m", "tests.faulty", *(fault.name for fault in faults)]
        server = start(command, cwd=ROOT)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            with TemporaryDirectory() as folder:
                budget = "quick" if faults[0].clause.startswith(BY_CHANCE) else "brief"
                return named_causes(suite.run(Path(folder), url, budget=budget).report)
        finally:
            end_group(server.pid)
            server.communicate()
            suites.put(suite)

    with ThreadPoolExecutor(suites.qsize()) as executor:
        yield from executor.map(check, chosen)
    while not suites.empty():
        suites.get().close()


def main(names: Sequence[str]) -> None:
    """Print a table of faults, by default of all with some pairs of them, and a summary."""
    chosen: Sequence[Fault] = [fault for fault in FAULTS if fault.name in names or not names]
    print(f"""# What the contract suite names on each planted fault

Printed by `python -m tests.contract_suite` on {datetime.now(UTC):%Y-%m-%d}. Each row is one run of the whole suite with
`--budget brief`, or `quick` if chance decides what it finds. The exit codes are those at `--level must` and at
`--level should`.

| fault | breaks | causes | also seen in | must | should |
|---|---|---|---|---|---|""")
    results = []
    for fault, named in zip(chosen, run_all([fault] for fault in chosen), strict=True):
        print(f"| {fault.name} | {', '.join(fault.clauses)} | {named.row()} |", flush=True)
        results.append((fault, named))
    print(f"\n{summary(results)}")
    if names:
        return
    print("\n| two faults at once | break | causes | also seen in | must | should |\n|---|---|---|---|---|---|")
    both = []
    for pair, named in zip(pairs(), run_all(pairs()), strict=True):
        one, other = pair
        print(f"| {one.name}, {other.name} | {one.clause}, {other.clause} | {named.row()} |", flush=True)
        both.append((pair, named))
    print(f"\n{of_pairs(both)}")


if __name__ == "__main__":
    main(sys.argv[1:])
