"""`python -m tests.contract_suite`: runs the whole suite on each planted fault, and prints what it blames.

For each fault: the clause that it breaks, the causes that the suite names, the first one first, in how many other
clauses these are seen, and the exit codes at `--level must` and `--level should`. A summary follows. It takes about half
an hour for all faults. Names of faults choose some of them.
"""

import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory

from contract_tests.clauses import CLAUSES, Level
from tests.contract_suite.runner import LoadedSuite
from tests.faulty.faults import FAULTS, Fault


def main() -> None:
    """Run the suite on the faults that the arguments name, or on all, and print the results as Markdown."""
    chosen = [fault for fault in FAULTS if fault.name in sys.argv[1:] or len(sys.argv) == 1]
    suites: Queue[LoadedSuite] = Queue()
    for _ in range(os.cpu_count() or 1):
        suites.put(LoadedSuite())

    def check(fault: Fault) -> dict[str, object]:
        suite = suites.get()
        try:
            with TemporaryDirectory() as folder, fault.server() as server:
                return suite.run(Path(folder), server.url, budget="brief").report
        finally:
            suites.put(suite)

    print("| fault | breaks | causes | also seen in | must | should |\n|---|---|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(suites.qsize()) as executor:
        for fault, report in zip(chosen, executor.map(check, chosen), strict=True):
            causes = [cause["clause"] for cause in report["causes"]]
            also = sum(len(cause["also_seen_in"]) for cause in report["causes"])
            codes = report["exit_codes"]
            print(
                f"| {fault.name} | {fault.clause} | {', '.join(causes)} | {also} | {codes['must']} | {codes['should']} |",
                flush=True,
            )
    while not suites.empty():
        suites.get().close()


if __name__ == "__main__":
    main()
