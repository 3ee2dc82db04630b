"""What the notebook about contract testing sends to servers: generated requests, and the contract suite."""

import json
import shlex
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.errors import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from course import ROOT

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
MODES = {"valid": schemathesis.GenerationMode.POSITIVE, "invalid": schemathesis.GenerationMode.NEGATIVE}


def fuzz(url: str, kind: str) -> dict[str, tuple[str, httpx.URL | None]]:
    """Send a server 50 generated requests for each operation of the contract, which are `valid` or `invalid`.

    Return for each operation `pass`, or the first failure and the URL of the smallest request that shows it. The
    requests are the same each time.
    """
    contract = schemathesis.openapi.from_path(ROOT / "openapi.yaml")
    operations = (cast(Any, result).ok() for result in contract.get_all_operations())
    return {operation.label: _fuzz(url, operation, kind) for operation in operations}


def _fuzz(url: str, operation: Any, kind: str) -> tuple[str, httpx.URL | None]:
    result: tuple[str, httpx.URL | None] = ("pass", None)

    @settings(
        max_examples=50,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(MODES[kind]))
    def check(case: Any) -> None:
        nonlocal result
        response = case.call(base_url=url)
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            # Hypothesis makes the request smaller as long as it fails. The last one is the smallest.
            result = (group.exceptions[0].title, httpx.URL(response.request.url))
            raise group.exceptions[0] from None

    with suppress(AssertionError):
        check()
    return result


def run_suite(url: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Aim the contract suite at a server; return its exit code and its report."""
    command = [sys.executable, "-m", "pytest", "contract_tests", "--base-url", url, *options]
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run([*command, "--seed", "1", "--report-dir", folder], cwd=ROOT, capture_output=True)
        return ended.returncode, json.loads(Path(folder, "report.json").read_text("utf-8"))


def commands(report: dict[str, Any], clause: str) -> list[str]:
    """Return the shortest sequence of requests that breaks a clause, as curl commands.

    The suite's identifiers are long and new in each run. Here they get short names.
    """
    names: dict[str, str] = {}
    (failed,) = (each for each in report["clauses"] if each["id"] == clause)
    return [_shorten(exchange["curl"], names) for exchange in failed["failures"][0]["exchanges"]]


def _shorten(command: str, names: dict[str, str]) -> str:
    *words, url = shlex.split(command)
    short = httpx.URL(url)
    for parameter, value in short.params.items():
        kind = parameter.removesuffix("_id")
        number = 1 + sum(name.startswith(kind) for name in names.values())
        short = short.copy_set_param(parameter, names.setdefault(value, f"{kind}-{number}"))
    return shlex.join([*words, str(short)])
