"""Reports what a run found: as text for the terminal, and as files in JSON, JUnit's XML and HTML."""

import json
import statistics
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from contract_tests.clauses import CLAUSES, Clause
from contract_tests.suite.run import ExitCode, Failure, Run, Verdict
from contract_tests.suite.transport import Step

# Longer answers are cut off, and on the terminal longer commands too.
MAX_TEXT = 1500
# Longer commands are cut off in the files. Only the URLs that are meant to be huge are longer.
MAX_COMMAND = 20_000
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


def text(run: Run, *, color: bool = False) -> str:
    """Return the verdicts, each failure with the requests that show it, and the conclusion."""
    lines = []
    if run.requests:
        for clause in CLAUSES.values():
            lines.append(_line(run, clause, color))
        for clause_id in CLAUSES:
            for failure in run.failures.get(clause_id, [])[:1]:
                lines += ["", *_explanation(run, CLAUSES[clause_id], failure)]
        lines.append("")
    lines += [f"error: {error}" for error in run.errors]
    return "\n".join([*lines, conclusion(run)])


def _line(run: Run, clause: Clause, color: bool) -> str:
    verdict = run.verdict(clause)
    shown = f"{verdict:<11}"
    if color:
        shown = f"\033[{COLORS[verdict]}m{shown}\033[0m"
    reason = run.reason(clause)
    note = "" if run.decides(clause) or verdict is not Verdict.FAIL else " (does not fail the run)"
    return f"{clause.id:<10} {clause.level:<6} {shown} {clause.text}{note}{f' [{reason}]' if reason else ''}"


def _explanation(run: Run, clause: Clause, failure: Failure) -> list[str]:
    more = len(run.failures[clause.id]) - 1
    return [
        f"{clause.id} ({clause.level}, {clause.source}): {clause.text}",
        *(f"    {line}" for line in _steps(failure, run.target.base_url)),
        f"  expected: {_cut(failure.expected)}",
        f"  got:      {_cut(failure.got)}",
        *([f"  more failures of this clause in the reports: {more}"] if more else []),
    ]


def _steps(failure: Failure, base_url: str) -> list[str]:
    """Return the steps as commands, each with what came back."""
    steps = failure.steps
    lines = []
    if len(steps) > MAX_STEPS:
        lines.append(f"# {len(steps) - MAX_STEPS} earlier requests are left out")
        steps = steps[-MAX_STEPS:]
    for step in steps:
        together = " &" if step.group else ""
        lines += [f"{_cut(step.request.curl(base_url))}{together}", f"  # {_cut(step.got)}"]
    return lines


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
    median = f", {1000 * statistics.median(run.durations):.1f} ms per request (median)" if run.durations else ""
    effort = f"{run.requests} requests{median}, {run.elapsed_s:.0f} s, --seed {run.seed}"
    return f"{run.target.base_url}: {result} ({figures}; {effort})"


def _is_incomplete(run: Run) -> bool:
    return any(run.verdict(clause) is Verdict.NOT_CHECKED and not clause.conditional for clause in CLAUSES.values())


def as_data(run: Run) -> dict[str, Any]:
    """Return the report as plain data, as report.json has it."""
    return {
        "url": run.target.base_url,
        "seed": run.seed,
        "budget": run.budget.name,
        "level": run.level.lower(),
        "requests": run.requests,
        "seconds": round(run.elapsed_s, 1),
        "exit_code": run.exit_code(),
        "conclusion": conclusion(run),
        "errors": run.errors,
        "clauses": [
            {
                "id": clause.id,
                "level": clause.level,
                "source": clause.source,
                "text": clause.text,
                "verdict": run.verdict(clause),
                "decides": run.decides(clause),
                "reason": run.reason(clause),
                "failures": [_failure(run, failure) for failure in run.failures.get(clause.id, [])],
            }
            for clause in CLAUSES.values()
        ],
    }


def _failure(run: Run, failure: Failure) -> dict[str, Any]:
    return {
        "test": failure.test,
        "expected": failure.expected,
        "got": _cut(failure.got),
        "exchanges": [_step(step, run.target.base_url) for step in failure.steps[-MAX_STEPS:]],
    }


def _step(step: Step, base_url: str) -> dict[str, Any]:
    response = step.response
    return {
        "curl": _cut(step.request.curl(base_url), MAX_COMMAND),
        "status": response.status if response else None,
        "headers": [list(header) for header in response.headers] if response else [],
        "body": _cut(response.body.decode(errors="backslashreplace")) if response else "",
        "failure": step.no_response,
        "together": step.group,
    }


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
    return "\n".join([*steps, f"expected: {failure['expected']}", f"got:      {failure['got']}"])


def _xml(text: str) -> str:
    """Return a text with escapes for the characters that XML cannot hold."""
    return "".join(
        char
        if char in "\t\n" or (char >= " " and char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff")
        else f"\\x{ord(char):02x}"
        for char in text
    )


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { font-size: 1.05rem; margin-top: 1.8rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .3rem .6rem; border-bottom: 1px solid #d8dee6;
text-align: left; vertical-align: top; } td:first-child, td:nth-child(2), td:nth-child(3) { white-space: nowrap; }
.pass { color: #1a7f37; } .fail { color: #cf222e; font-weight: 600; } .error { color: #8250df; font-weight: 600; }
.not-checked { color: #9a6700; }
pre { background: #f5f7fa; padding: .8rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.answer { color: #57606a; } dt { font-weight: 600; } dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
.banner { padding: .6rem 1rem; border-left: 4px solid; background: #f5f7fa; }
"""


def as_html(data: dict[str, Any]) -> str:
    """Return the report as one HTML page, which needs no other file."""
    rows, details = [], []
    for clause in data["clauses"]:
        kind = clause["verdict"].replace(" ", "-")
        name = escape(clause["id"])
        link = f'<a href="#{name}">{name}</a>' if clause["failures"] else name
        reason = "does not fail the run" if clause["failures"] and not clause["decides"] else clause["reason"]
        note = f' <span class="not-checked">({escape(reason)})</span>' if reason else ""
        rows.append(
            f'<tr><td>{link}</td><td>{clause["level"]}</td><td class="{kind}">{clause["verdict"]}</td>'
            f"<td>{_code(clause['text'])}{note}</td></tr>"
        )
        if clause["failures"]:
            details.append(f'<h3 id="{name}">{name}: {_code(clause["text"])}</h3>')
            details.append(f"<p>{clause['level']}, from {escape(clause['source'])}</p>")
            details += [_failure_html(failure) for failure in clause["failures"]]
    kind = {ExitCode.CONFORMS: "pass", ExitCode.FAILED: "fail"}.get(data["exit_code"], "error")
    errors = "".join(f'<p class="error">error: {escape(error)}</p>' for error in data["errors"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Orders service: contract report</title>'
        f"<style>{_STYLE}</style></head><body><h1>Orders service: contract report</h1>"
        f'<p class="banner {kind}">{escape(data["conclusion"])}</p>{errors}'
        f"<p>Budget {data['budget']}, level {data['level']}. To repeat the random choices: "
        f"<code>--seed {data['seed']}</code></p>"
        f"{'<h2>What failed</h2>' if details else ''}{''.join(details)}<h2>All clauses</h2>"
        "<table><thead><tr><th>clause</th><th>level</th><th>verdict</th><th>what it says</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></body></html>\n"
    )


def _failure_html(failure: dict[str, Any]) -> str:
    steps = []
    for exchange in failure["exchanges"]:
        headers = "".join(f"\n  {name}: {value}" for name, value in exchange["headers"])
        answer = f"{exchange['status'] or exchange['failure']}{headers}\n  {exchange['body']}"
        together = " &" if exchange["together"] else ""
        steps.append(f'$ {escape(exchange["curl"])}{together}\n<span class="answer">  {escape(answer)}</span>')
    return (
        f"<dl><dt>expected</dt><dd>{_code(failure['expected'])}</dd><dt>got</dt><dd>{escape(failure['got'])}</dd></dl>"
        f"<pre>{chr(10).join(steps)}</pre><p>Found by <code>{escape(failure['test'])}</code></p>"
    )


def _code(text: str) -> str:
    """Return a text as HTML, with the parts between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
