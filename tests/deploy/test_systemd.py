"""The systemd unit and its file of settings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click import ParameterSource

from harness.nginx import ROOT
from harness.programs import require_program
from orders.cli import serve

UNIT = ROOT / "deploy" / "orders.service"
SETTINGS = ROOT / "deploy" / "orders.env"
PROGRAM = "/opt/orders/bin/orders"


def analyze(*arguments: str | Path) -> str:
    """Run systemd-analyze, which must have nothing to complain about; return what it prints."""
    program = require_program("systemd")
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and not ended.stderr, (ended.args, ended.returncode, ended.stdout, ended.stderr)
    return ended.stdout


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """Every line of the unit is one that systemd knows."""
    installed = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert PROGRAM in text
    installed.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("orders"))))
    analyze("verify", installed)


def test_the_service_can_do_little_harm() -> None:
    """systemd's own measure of what a broken-in service could do is low: 1.5 of 10, or less."""
    analyze("security", "--offline=yes", "--threshold=15", UNIT)


@pytest.mark.parametrize("commented_out", [False, True])
def test_the_settings_are_options_of_the_server(monkeypatch: pytest.MonkeyPatch, commented_out: bool) -> None:
    """Each variable is one that `orders serve` knows, also those that are commented out."""
    lines = re.findall(rf"^{'# ' if commented_out else ''}(ORDERS_\w+)=(.*)$", SETTINGS.read_text(), re.MULTILINE)
    assert lines
    for name, value in lines:
        monkeypatch.setenv(name, value)
    options = serve.make_context("serve", [])
    for name, _ in lines:
        source = options.get_parameter_source(name.removeprefix("ORDERS_").lower())
        assert source is ParameterSource.ENVIRONMENT, f"{name} is no option"
