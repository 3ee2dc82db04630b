"""The Markdown pages: their links work, the README is short, and tables match the code."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from orders.cli import serve
from orders.controls.journal import Outcome
from orders.controls.schemas import DOCUMENT

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAX_WORDS = 1_300


def section(page: str, heading: str) -> str:
    """Return the text under a heading of a page, up to the next heading of the same level."""
    _, _, text = (ROOT / page).read_text().partition(f"\n{heading}\n")
    return re.split(rf"^{heading.partition(' ')[0]} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading of a page, without its first line."""
    table = re.findall(r"^\| (.*) \|$", section(page, heading), re.MULTILINE)
    return [re.split(r" *\| *", row) for row in table[1:]]


def names(cell: str) -> list[str]:
    """Return what a cell has as code."""
    return re.findall("`([^`]+)`", cell)


def test_the_readme_is_short() -> None:
    """The README is one page: at most 1,300 words."""
    assert len(README.split()) <= MAX_WORDS


def test_the_readme_has_a_command_for_each_reader() -> None:
    """The README has one command for each kind of reader, on one line under a heading that the reader looks for."""
    for heading, end in {
        "Writing a client?": "orders serve --controls --database sqlite:///:memory:",
        "Checking your own server?": "orders-contract http://127.0.0.1:8080",
        "New to the API?": "/1_quickstart.ipynb",
        "Contributing?": ".venv/bin/tox",
    }.items():
        (command,) = re.findall(r"```sh\n(.*?)```", section("README.md", f"## {heading}"), re.DOTALL)
        assert command.strip().endswith(end) and command.count("\n") == 1, command


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """CI runs the README's test command, and then the checks that this command leaves out."""
    ci = (ROOT / ".ci" / "run").read_text()
    *_, command = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert f"\n{command}" in ci and "tox run-parallel -m rest" in ci, ci


def test_the_readme_has_the_measured_figures() -> None:
    """The figures in the README and in its chart are those of the last run of the benchmarks."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    measured = {goal["what"]: f"{goal['measured']:.1f}" for goal in results["goals"]}
    cpu = {phase: measured[f"{phase}: CPU per request ÷ empty handler (SQLite)"] for phase in ("acquire", "assign")}
    text = " ".join(section("README.md", "## How fast is it?").split())
    acquire = f"an acquire takes {cpu['acquire']} times the CPU of an empty Tornado handler"
    assert f"{acquire}, and a durable assign {cpu['assign']} times" in text
    chart = (ROOT / "benchmarks" / "charts" / "speed.svg").read_text()
    drawn = [server for server in results["servers"].values() if f">{server['title']}<" in chart]
    assert len(drawn) == 8
    for server in drawn:
        throughput = server["phases"]["mix"]["median"]["throughput"]
        assert f">{throughput:,.0f}<" in chart, server["title"]


def test_the_server_page_has_every_option() -> None:
    """docs/server.md has the options of `orders serve`, in any order, with their defaults."""
    documented = {names(row[0])[0]: "".join(names(row[1])) for row in rows("docs/server.md", "## Options")}
    code = {option.opts[0]: option.default for option in serve.params}
    assert {option.replace("--no-", "--") for option in documented} == code.keys()
    # Flags are off, and an option that may be repeated has no default.
    shown = {option: default for option, default in documented.items() if default}
    assert shown == {option: str(code[option]) for option in shown} and len(shown) == 7


def test_the_controls_page_has_every_call_and_field() -> None:
    """docs/controls.md has the calls of the test controls, the fields and kinds of a fault, and the outcomes."""
    definition: Any = DOCUMENT.data
    calls = {f"{method.upper()} {path}" for path, item in definition["paths"].items() for method in item}
    assert {names(row[0])[0] for row in rows("docs/controls.md", "## Calls")} == calls
    schemas = definition["components"]["schemas"]
    faults = {
        kind: schemas[reference.split("/")[-1]]
        for kind, reference in schemas["Fault"]["discriminator"]["mapping"].items()
    }
    fields = {name: row[1] for row in rows("docs/controls.md", "## Faults") for name in names(row[0])}
    assert fields.keys() == {name for fault in faults.values() for name in fault["properties"]}
    assert faults.keys() <= set(names(fields["kind"]))
    outcomes = [name for row in rows("docs/controls.md", "## The journal") for name in names(row[0])]
    assert sorted(outcomes) == sorted(outcome.value for outcome in Outcome)


def test_pictures_are_well_formed() -> None:
    """Every picture is XML that a browser can draw."""
    pictures = [*(ROOT / "docs").glob("*.svg"), *(ROOT / "benchmarks" / "charts").glob("*.svg")]
    assert len(pictures) > 5
    for picture in pictures:
        assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg", picture


def pages() -> dict[str, str]:
    """Return the Markdown of every page and every notebook, by path."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "*.ipynb"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {name: markdown(ROOT / name) for name in found if (ROOT / name).exists()}


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
