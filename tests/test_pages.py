"""The pages of the project: their links lead somewhere, and the README begins with what each reader runs first."""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readme_has_its_commands_first() -> None:
    """The first blocks are what each kind of reader begins with, a line each, on the first screen."""
    ends = ["orders serve", "--base-url http://127.0.0.1:8080", "/1_quickstart.ipynb", "tox"]
    commands = blocks("sh")[: len(ends)]
    for command, end in zip(commands, ends, strict=True):
        assert command.strip().endswith(end) and command.count("\n") == 1, command
    assert README[: README.index(commands[-1])].count("\n") < 40


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """What CI runs is what a reader runs, and then what that leaves out."""
    ci = (ROOT / ".ci" / "run").read_text()
    assert f"\n{blocks('sh')[3]}" in ci and "tox run-parallel -m rest" in ci, ci


def pages() -> dict[str, str]:
    """Return the Markdown of every page of the project, of notebooks too, by its path."""
    names = subprocess.run(["git", "ls-files", "*.md", "*.ipynb"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: markdown(ROOT / name) for name in names.stdout.split() if (ROOT / name).exists()}


def markdown(page: Path) -> str:
    """Return the Markdown of a page, without its code."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"```.*?```|`[^`\n]*`", "code", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors that code hosts give to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    """Links from page to page name files and headings that exist."""
    found = pages()
    links = 0
    for name, text in found.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match("[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (ROOT / name).parent / path if path else ROOT / name
            assert target.exists(), f"{name}: {link}"
            assert not anchor or anchor in anchors(markdown(target)), f"{name}: {link}"
            links += 1
    assert links > 50, f"only {links} links were found"
