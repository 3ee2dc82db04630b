"""Generates the load with wrk and the script `load.lua`."""

import json
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.programs import find_program, how_to_install

CONNECTIONS = 32
SCRIPT = Path(__file__).with_name("load.lua")
# The phase that adds the most orders comes last.
PHASES = ("acquire", "mix", "assign")


class WrkFailed(Exception):
    """wrk is missing or failed. The message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a run of wrk. `errors` counts failed connections, timeouts, and responses other than 2xx."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: int
    generator_cpu_s: float


def check_wrk() -> None:
    """Raise WrkFailed if wrk is not installed."""
    if find_program("wrk") is None:
        raise WrkFailed(how_to_install("wrk"))


def run_wrk(port: int, phase: str, *, seconds: int, executors: int, prefix: str) -> Load:
    """Send a phase's requests to a server for some seconds. Order ids start with `prefix`. Raises WrkFailed."""
    command = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s", "--timeout=30s"]
    command += [f"--script={SCRIPT}", f"http://127.0.0.1:{port}/", "--", phase, str(executors), prefix]
    before = _children_cpu_s()
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode != 0:
        raise WrkFailed(f"wrk failed: {(ended.stderr or ended.stdout).strip()}")
    return parse(ended.stdout, _children_cpu_s() - before)


def parse(output: str, generator_cpu_s: float) -> Load:
    """Return the result that `load.lua` prints in the last line of wrk's output. Raises WrkFailed."""
    try:
        answers: dict[str, Any] = json.loads(output.strip().split("\n")[-1])
        return Load(**answers, generator_cpu_s=generator_cpu_s)
    except (ValueError, TypeError):
        raise WrkFailed(f"wrk printed no result: {output.strip()}") from None


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
