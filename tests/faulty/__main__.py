"""`python -m tests.faulty`: lists the faults, or serves one."""

import argparse
import threading
from collections.abc import Sequence
from contextlib import suppress

from tests.faulty.faults import FAULTS
from tests.faulty.implementation import Server


def main(arguments: Sequence[str] | None = None) -> None:
    """List the faults, or serve one until interrupted."""
    faults = {fault.name: fault for fault in FAULTS}
    parser = argparse.ArgumentParser(prog="python -m tests.faulty", description="Serve an implementation with a fault.")
    parser.add_argument("name", nargs="?", help="the fault to serve, or `correct`; default: list the faults")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 means any free port (default: 0)")
    options = parser.parse_args(arguments)
    if options.name is None:
        for fault in FAULTS:
            print(f"{fault.name:36} {fault.clause:10} {fault.description}")
        return
    if options.name != "correct" and options.name not in faults:
        parser.error(f"there is no fault {options.name}")
    server = Server(port=options.port) if options.name == "correct" else faults[options.name].server(options.port)
    with server, suppress(KeyboardInterrupt):
        print(f"listening on {server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
