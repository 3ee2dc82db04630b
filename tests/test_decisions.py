"""The decisions D1 to D13: the contract states each of them, and a test names it."""

import ast
import re
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
CONTRACT = HERE.parent / "openapi.yaml"


@pytest.mark.parametrize("decision", [f"D{number}" for number in range(1, 14)])
def test_every_decision_is_stated_and_tested(decision: str) -> None:
    """The contract states each decision, and at least one test names it in its docstring."""
    assert f"- **{decision}** " in yaml.safe_load(CONTRACT.read_text())["info"]["description"]
    named_by = [
        function.name
        for path in HERE.rglob("test_*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        if re.search(rf"\b{decision}\b", ast.get_docstring(function) or "")
    ]
    assert named_by, f"no test names {decision}"
