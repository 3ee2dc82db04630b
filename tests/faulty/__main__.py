"""`python -m tests.faulty`: lists the faults, or serves one or several at the same time."""

import argparse
import threading
from collections.abc import Sequence
from contextlib import suppress

from tests.faulty.faults import FAULTS
from tests.faulty.implementation import Server


def main(arguments: Sequence[str] | None = None) -> None:
    """List the faults, or serve some until interrupted."""
    faults = {fault.name: fault for fault in FAULTS}
    parser = argparse.ArgumentParser(prog="python -m tests.faulty", description="Serve an implementation with a fault.")
    parser.add_argument("names", nargs="*", help="faults to serve, or `correct` for none; default: list the faults")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 means any free port (default: 0)")
    options = parser.parse_args(arguments)
    if not options.names:
        for fault in FAULTS:
            print(f"{fault.name:36} {fault.clause:10} {fault.description}")
        return
    for name in options.names:
        if name != "correct" and name not in faults:
            parser.error(f"there is no fault {name}")
    components = [faults[name].component for name in options.names if name != "correct"]
    with Server(*components, port=options.port) as server, suppress(KeyboardInterrupt):
        print(f"listening on {server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
