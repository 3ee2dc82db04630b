"""The Markdown pages: their links work, and the README starts with the commands that readers run first."""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readme_starts_with_commands() -> None:
    """The README's first screen has one command for each kind of reader, each on one line."""
    ends = ["orders serve", "orders-contract http://127.0.0.1:8080", "/1_quickstart.ipynb", "tox"]
    commands = blocks("sh")[: len(ends)]
    for command, end in zip(commands, ends, strict=True):
        assert command.strip().endswith(end) and command.count("\n") == 1, command
    assert README[: README.index(commands[-1])].count("\n") < 40


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """CI runs the README's test command, and then the checks that this command leaves out."""
    ci = (ROOT / ".ci" / "run").read_text()
    assert f"\n{blocks('sh')[3]}" in ci and "tox run-parallel -m rest" in ci, ci


def pages() -> dict[str, str]:
    """Return the Markdown of every page and every notebook, by path."""
    names = subprocess.run(["git", "ls-files", "*.md", "*.ipynb"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: markdown(ROOT / name) for name in names.stdout.split() if (ROOT / name).exists()}


def markdown(page: Path) -> str:
    """Return the Markdown of a page without its code."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"```.*?```|`[^`\n]*`", "code", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors that code hosts generate for the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_between_pages_work() -> None:
    """Each link from one page to another names a file, and a heading, that exists."""
    found = pages()
    links = 0
    for name, text in found.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match("[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (ROOT / name).parent / path if path else ROOT / name
            assert target.exists(), f"{name} links to {link}: no such file"
            assert not anchor or anchor in anchors(markdown(target)), f"{name} links to {link}: no such heading"
            links += 1
    assert links > 50, f"only {links} links were found"
