"""Reports what a run found, causes first: as text for the terminal, and as files in JSON, JUnit's XML and HTML."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from contract_tests.clauses import CLAUSES, Level
from contract_tests.suite.evidence import script
from contract_tests.suite.run import RANK, ExitCode, Failure, Run, Verdict
from contract_tests.suite.transport import Step

# The version of report.json, whose schema is in report.schema.json. It changes if a property gets another meaning.
VERSION = 1
# Longer answers are cut off, and on the terminal longer commands too.
MAX_TEXT = 1500
# Longer commands are cut off in the files. Only the URLs that are meant to be huge are longer.
MAX_COMMAND = 20_000
# The files have so many failures of a cause at most, and the last steps of a longer sequence.
MAX_FAILURES = 5
MAX_STEPS = 25
COLORS = {Verdict.PASS: "32", Verdict.FAIL: "31;1", Verdict.ERROR: "35;1", Verdict.NOT_CHECKED: "33"}


def write(run: Run, folder: Path) -> None:
    """Write the three reports into a folder. If that fails, it is an error of the run."""
    utf_8 = {"encoding": "utf-8", "errors": "backslashreplace"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = as_data(run)
        (folder / "report.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", **utf_8)
        (folder / "report.xml").write_bytes(as_junit(data))
        (folder / "report.html").write_text(as_html(data), **utf_8)
    except OSError as error:
        run.errors.append(f"no reports in {folder}: {error.strerror or error}")


def as_data(run: Run) -> dict[str, Any]:
    """Return the report as plain data, as report.json has it."""
    return {
        "version": VERSION,
        "url": run.target.base_url,
        "seed": run.seed,
        "budget": run.budget.name,
        "level": run.level.lower(),
        "requests": run.requests,
        "seconds": round(run.elapsed_s, 1),
        "exit_code": run.exit_code(),
        "exit_codes": {level.lower(): run.exit_code(level) for level in Level},
        "conclusion": conclusion(run),
        "errors": run.errors,
        "causes": [{"clause": cause, "also_seen_in": others} for cause, others in run.causes.items()],
        "clauses": [
            {
                "id": clause.id,
                "level": clause.level,
                "source": clause.source,
                "text": clause.text,
                "verdict": run.verdict(clause),
                "decides": run.decides(clause),
                "reason": run.reason(clause),
                "failures": [_failure(run, failure) for failure in _shown_failures(run, clause.id)],
            }
            for clause in CLAUSES.values()
        ],
    }


def _shown_failures(run: Run, clause: str) -> list[Failure]:
    return run.own_failures(clause)[:MAX_FAILURES] if clause in run.causes else []


def _failure(run: Run, failure: Failure) -> dict[str, Any]:
    commands = script(failure, run.target, run.token)
    return {
        "test": failure.test,
        "expected": failure.expected,
        "got": _cut(failure.got),
        "relied_on": sorted(failure.relies, key=RANK.index),
        "script": [_cut(command, MAX_COMMAND) for command, _ in commands],
        "exchanges": [
            {"curl": _cut(command, MAX_COMMAND), **_response(step)}
            for command, step in commands[-MAX_STEPS:]
            if step is not None
        ],
    }


def _response(step: Step) -> dict[str, Any]:
    response = step.response
    return {
        "status": response.status if response else None,
        "headers": [list(header) for header in response.headers] if response else [],
        "body": _cut(response.body.decode(errors="backslashreplace")) if response else "",
        "failure": step.no_response,
        "together": step.group,
    }


def _cut(long: str, length: int = MAX_TEXT) -> str:
    """Return a text cut to a length, with escapes for the characters that control a terminal."""
    shown = "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in long[:length])
    return shown if len(long) <= length else f"{shown}… ({len(long)} characters)"


def conclusion(run: Run) -> str:
    """Return the result of the run in one sentence."""
    if not run.requests:
        return "nothing was checked"
    counts = Counter(run.verdict(clause) for clause in CLAUSES.values())
    figures = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    result = {
        ExitCode.CONFORMS: "conforms, as far as it was checked" if _is_incomplete(run) else "conforms",
        ExitCode.FAILED: "does not conform",
        ExitCode.ERROR: "no verdict",
    }[run.exit_code()]
    if run.exit_code() == ExitCode.ERROR and (undecided := run.undecided()):
        result += f", because {', '.join(clause.id for clause in undecided)} could not be checked"
    median = f", {1000 * statistics.median(run.durations):.1f} ms per request (median)" if run.durations else ""
    effort = f"{run.requests} requests{median}, {run.elapsed_s:.0f} s, --seed {run.seed}"
    return f"{run.target.base_url}: {result} ({figures}; {effort})"


def _is_incomplete(run: Run) -> bool:
    return any(run.verdict(clause) is Verdict.NOT_CHECKED and not clause.conditional for clause in CLAUSES.values())


def text(run: Run, *, color: bool = False) -> str:
    """Return each cause with the requests that show it, the other clauses that did not pass, and the conclusion."""
    lines: list[str] = []
    for number, cause in enumerate(run.causes, 1):
        lines += [*_explanation(run, number, cause, color), ""]
    others = [
        f"{clause.id:<10} {_colored(f'{verdict:<11}', verdict, color)} {reason}"
        for clause in CLAUSES.values()
        if (verdict := run.verdict(clause)) is not Verdict.FAIL and (reason := run.reason(clause))
    ]
    # A clause that is seen with a cause needs no line of its own.
    seen = {clause for clauses in run.causes.values() for clause in clauses}
    others = [line for line in others if line.split()[0] not in seen]
    if run.requests and others and not run.selected:
        lines += [*others, ""]
    lines += [f"error: {error}" for error in run.errors]
    return "\n".join([*lines, conclusion(run)])


def _colored(shown: str, verdict: Verdict, color: bool) -> str:
    return f"\033[{COLORS[verdict]}m{shown}\033[0m" if color else shown


def _explanation(run: Run, number: int, cause: str, color: bool) -> Iterator[str]:
    """Yield the lines that explain a cause: what it says, what came back, and how to see it again."""
    clause, failures = CLAUSES[cause], run.own_failures(cause)
    note = "" if run.decides(clause) else " (does not fail the run)"
    yield f"{number}. {_colored(cause, Verdict.FAIL, color)} ({clause.level}, {clause.source}): {clause.text}{note}"
    yield f"   expected: {_cut(failures[0].expected)}"
    yield f"   got:      {_cut(failures[0].got)}"
    commands = script(failures[0], run.target, run.token)
    if len(commands) > MAX_STEPS:
        yield f"     # {len(commands) - MAX_STEPS} earlier lines are in the reports"
    for command, step in commands[-MAX_STEPS:]:
        yield f"     {_cut(command)}"
        if step is not None:
            yield f"     # {_cut(step.got)}"
    if len(failures) > 1:
        yield f"   {len(failures) - 1} more checks failed in the same way"
    if others := run.causes[cause]:
        yield f"   also seen in: {', '.join(others)}"


def as_junit(data: dict[str, Any]) -> bytes:
    """Return the report in JUnit's format, with one test case per clause."""
    suite = ElementTree.Element("testsuite", name="orders service contract", time=str(data["seconds"]))
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for clause in data["clauses"]:
        family = clause["id"].partition("-")[0]
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"contract.{family}", name=f"{clause['id']} {clause['text']}"
        )
        if clause["verdict"] == Verdict.FAIL and clause["decides"]:
            counts["failures"] += 1
            first = clause["failures"][0]
            element = ElementTree.SubElement(
                case, "failure", message=_xml(f"expected {first['expected']}; got {first['got']}")
            )
            element.text = _xml("\n\n".join(_as_text(failure) for failure in clause["failures"]))
        elif clause["verdict"] == Verdict.ERROR:
            counts["errors"] += 1
            ElementTree.SubElement(case, "error", message=_xml(clause["reason"]))
        elif clause["verdict"] != Verdict.PASS:
            counts["skipped"] += 1
            reason = "failed, but does not fail the run" if clause["verdict"] == Verdict.FAIL else clause["reason"]
            ElementTree.SubElement(case, "skipped", message=_xml(reason))
    for error in data["errors"]:
        counts["errors"] += 1
        case = ElementTree.SubElement(suite, "testcase", classname="contract", name="the run")
        ElementTree.SubElement(case, "error", message=_xml(error))
    suite.set("tests", str(len(suite)))
    for name, count in counts.items():
        suite.set(name, str(count))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _as_text(failure: dict[str, Any]) -> str:
    steps = [
        f"{exchange['curl']}\n  # {exchange['status'] or exchange['failure']} {exchange['body']}"
        for exchange in failure["exchanges"]
    ]
    return "\n".join([f"expected: {failure['expected']}", f"got:      {failure['got']}", *steps])


def _xml(text: str) -> str:
    """Return a text with escapes for the characters that XML cannot hold."""
    return "".join(
        char
        if char in "\t\n" or (char >= " " and char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff")
        else f"\\x{ord(char):02x}"
        for char in text
    )


_STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --back: #fff; --box: #f4f6f9; --line: #d5dbe3; --faint: #57606a;
  --pass: #1a7f37; --fail: #c01c28; --error: #8250df; --open: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --back: #14181d; --box: #1e242c; --line: #39424e;
  --faint: #a3adb9; --pass: #4cc46a; --fail: #ff7b72; --error: #c297ff; --open: #e0a83a; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem; color: var(--text);
  background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1.05rem; }
a { color: inherit; } summary { cursor: pointer; padding: .4rem 0; }
table { border-collapse: collapse; width: 100%; } td { padding: .35rem .5rem; border-top: 1px solid var(--line);
  vertical-align: top; } td:first-child { white-space: nowrap; }
.pass { color: var(--pass); } .fail { color: var(--fail); font-weight: 600; } .error { color: var(--error); }
.not-checked { color: var(--open); } .answer, .note { color: var(--faint); }
pre { background: var(--box); padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; }
.banner { padding: .6rem .9rem; border-left: 4px solid; background: var(--box); }
@media (max-width: 40rem) { td { display: block; border: 0; padding: .1rem 0; }
  tr { display: block; border-top: 1px solid var(--line); padding: .4rem 0; } }
"""


def as_html(data: dict[str, Any]) -> str:
    """Return the report as one HTML page, which needs no other file."""
    clauses = {clause["id"]: clause for clause in data["clauses"]}
    causes = {cause["clause"]: cause["also_seen_in"] for cause in data["causes"]}
    rest = [clause for name, clause in clauses.items() if name not in causes]
    noted = [clause for clause in rest if clause["verdict"] != Verdict.PASS]
    passed = [clause for clause in rest if clause["verdict"] == Verdict.PASS]
    kind = {ExitCode.CONFORMS: "pass", ExitCode.FAILED: "fail"}.get(data["exit_code"], "error")
    return "".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Orders service: contract report</title><style>{_STYLE}</style></head><body>",
            f'<h1>Orders service: contract report</h1><p class="banner {kind}">{escape(data["conclusion"])}</p>',
            *[f'<p class="error">error: {escape(error)}</p>' for error in data["errors"]],
            f'<p class="note">Budget {data["budget"]}, level {data["level"]}. To repeat the random choices: ',
            f"<code>--seed {data['seed']}</code></p>",
            _table([clauses[name] for name in causes]),
            _folded(f"{len(noted)} clauses were not checked", _table(noted)) if noted else "",
            _folded(f"{len(passed)} clauses passed", _table(passed)) if passed else "",
            "<h2>What to mend</h2>" if causes else "",
            *[_cause_html(clauses[name], others) for name, others in causes.items()],
            "</body></html>\n",
        ]
    )


def _table(clauses: list[dict[str, Any]]) -> str:
    rows = []
    for clause in clauses:
        name = escape(clause["id"])
        link = f'<a href="#{name}">{name}</a>' if clause["failures"] else name
        reason = "does not fail the run" if clause["failures"] and not clause["decides"] else clause["reason"]
        note = f' <span class="note">({escape(reason)})</span>' if reason else ""
        rows.append(
            f'<tr><td>{link}</td><td>{clause["level"]}</td><td class="{clause["verdict"].replace(" ", "-")}">'
            f"{clause['verdict']}</td><td>{_code(clause['text'])}{note}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _cause_html(clause: dict[str, Any], others: list[str]) -> str:
    first, *more = clause["failures"]
    also = f"<p>Also seen in: {escape(', '.join(others))}</p>" if others else ""
    return (
        f'<h3 id="{escape(clause["id"])}">{escape(clause["id"])}: {_code(clause["text"])}</h3>'
        f'<p class="note">{clause["level"]}, from {escape(clause["source"])}</p>{_failure_html(first)}{also}'
        + "".join(_folded(f"Another example: {failure['got'][:100]}", _failure_html(failure)) for failure in more)
    )


def _failure_html(failure: dict[str, Any]) -> str:
    answers = {}
    for exchange in failure["exchanges"]:
        headers = "".join(f"\n  {name}: {value}" for name, value in exchange["headers"])
        answers[exchange["curl"]] = f"{exchange['status'] or exchange['failure']}{headers}\n  {exchange['body']}"
    lines = []
    for command in failure["script"]:
        answer = f'\n<span class="answer">  {escape(answers[command])}</span>' if command in answers else ""
        lines.append(f"$ {escape(command)}{answer}")
    relied_on = f", relying on {', '.join(failure['relied_on'])}" if failure["relied_on"] else ""
    return (
        f"<dl><dt>expected</dt><dd>{_code(failure['expected'])}</dd><dt>got</dt><dd>{escape(failure['got'])}</dd></dl>"
        f"<pre>{chr(10).join(lines)}</pre>"
        f'<p class="note">Found by <code>{escape(failure["test"])}</code>{escape(relied_on)}</p>'
    )


def _code(text: str) -> str:
    """Return a text as HTML, with the parts between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
