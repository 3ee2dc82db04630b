"""The decisions D1 to D13: the contract and docs/decisions.md state each of them, and a test names it."""

import ast
import re
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
CONTRACT = HERE.parent / "openapi.yaml"
PAGE = HERE.parent / "docs" / "decisions.md"


@pytest.mark.parametrize("decision", [f"D{number}" for number in range(1, 14)])
def test_every_decision_is_stated_and_tested(decision: str) -> None:
    """The contract states each decision, its page says the same, and at least one test names it in its docstring."""
    description = yaml.safe_load(CONTRACT.read_text())["info"]["description"]
    stated = re.search(rf"^- \*\*{decision}\*\* (.*?)(?=^- |^$)", description, re.DOTALL | re.MULTILINE)
    assert stated, f"the contract does not state {decision}"
    on_page = re.search(rf"^### {decision} [^\n]*\n\n(.*?)\n(?=\n|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert on_page and on_page[1].split() == stated[1].split(), f"{PAGE} on {decision}: {on_page}"
    named_by = [
        function.name
        for path in HERE.rglob("test_*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        if re.search(rf"\b{decision}\b", ast.get_docstring(function) or "")
    ]
    assert named_by, f"no test names {decision}"
