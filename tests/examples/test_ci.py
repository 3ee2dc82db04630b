"""examples/ci, action.yml and templates/: the jobs are well-formed, and their commands test a client or a server."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.clone import ROOT, make_clone
from harness.postgresql import free_port
from harness.processes import clean_environment, end_group, path_with, start

EXAMPLES = ROOT / "examples" / "ci"
TIMEOUT_S = 300

CLIENT = """\
#!/usr/bin/env bash
set -euo pipefail
curl --silent --show-error --fail --noproxy '*' --request POST "$ORDERS_URL/_controls/reset"
curl --silent --show-error --fail --noproxy '*' "$ORDERS_URL/order/acquire?executor_id=executor-1"
"""
# tests/install tests the installation. Here the checkout's code runs, and `pip install` only checks its argument.
PIP = f"""\
#!/usr/bin/env bash
[[ $* == "install git+{ROOT.as_uri()}" ]]
"""
ORDERS = f"""\
#!/usr/bin/env bash
exec {sys.executable} -m orders "$@"
"""


@dataclass
class Job:
    """A CI job: its variables, its scripts, the scripts that run after a failure, and the shell that runs them."""

    variables: dict[str, str]
    scripts: list[str]
    failure_scripts: list[str]
    shell: tuple[str, ...]


def github_job(text: str) -> Job:
    """Return the job of the GitHub Actions workflow. Each step is a script."""
    steps = yaml.safe_load(text)["jobs"]["client"]["steps"]
    scripts = [step for step in steps if "run" in step]
    return Job(
        variables=yaml.safe_load(text)["jobs"]["client"]["env"],
        scripts=[step["run"] for step in scripts if "if" not in step],
        failure_scripts=[step["run"] for step in scripts if step.get("if") == "failure()"],
        shell=("bash", "-e", "-c"),
    )


def gitlab_job(text: str) -> Job:
    """Return the job of the GitLab CI configuration. The lines of `script` are one script."""
    job = yaml.safe_load(text)["client"]
    return Job(
        variables={"CI_JOB_STATUS": "failed", **job["variables"]},
        scripts=["\n".join(job["script"])],
        failure_scripts=["\n".join(job["after_script"])],
        shell=("bash", "-eo", "pipefail", "-c"),
    )


JOBS = {"github.yml": github_job, "gitlab.yml": gitlab_job}


@dataclass
class Workspace:
    """The repository of a client, where a job runs."""

    directory: Path
    groups: list[int] = field(default_factory=list)

    def run_script(self, script: str, job: Job) -> tuple[int, str]:
        """Run a script as the CI service does; return its exit code and its output."""
        programs = self.directory.parent / "programs"
        process = start(
            [*job.shell, f"exec 2>&1\n{script}"],
            cwd=self.directory,
            env=clean_environment(PATH=path_with(programs), **job.variables),
        )
        self.groups.append(process.pid)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    def run_job(self, job: Job) -> tuple[int, str]:
        """Run a job; return its exit code and output. If a script fails, the scripts for a failure replace the rest."""
        outputs = []
        for script in job.scripts:
            code, output = self.run_script(script, job)
            outputs.append(output)
            if code != 0:
                outputs += [self.run_script(script, job)[1] for script in job.failure_scripts]
                break
        return code, "".join(outputs)

    def end(self) -> None:
        """Kill the processes that the scripts left running, as the CI service does at the end of a job."""
        for group in self.groups:
            end_group(group)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """The repository of a client, with stand-ins for `pip` and `orders` in PATH."""
    programs = tmp_path / "programs"
    workspace = Workspace(tmp_path / "client")
    for directory in (programs, workspace.directory):
        directory.mkdir()
    for path, text in {
        programs / "pip": PIP,
        programs / "orders": ORDERS,
        workspace.directory / "test-client": CLIENT,
    }.items():
        path.write_text(text)
        path.chmod(0o755)
    yield workspace
    workspace.end()


def read_job(name: str, port: int) -> Job:
    """Return a job that uses `port`, and this project as REPOSITORY."""
    text = (EXAMPLES / name).read_text().replace("8080", str(port))
    return JOBS[name](text.replace("REPOSITORY", ROOT.as_uri()))


def test_the_github_workflow_is_well_formed() -> None:
    """The workflow checks out the client's repository, and every step is an action or a script."""
    text = (EXAMPLES / "github.yml").read_text()
    # The parser reads YAML 1.1, where `on` means true.
    workflow = yaml.safe_load(text)
    assert set(workflow) == {"name", True, "jobs"} and workflow[True] == ["push", "pull_request"], workflow
    (job,) = workflow["jobs"].values()
    assert set(job) == {"runs-on", "env", "steps"}, job
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step) and set(step) <= {"uses", "with", "run", "if"}, step
        assert step.get("if", "failure()") == "failure()", step
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert actions == ["actions/checkout@v4", "actions/setup-python@v5"]


def test_the_gitlab_job_is_well_formed() -> None:
    """Every line of the job's scripts is a string."""
    configuration = yaml.safe_load((EXAMPLES / "gitlab.yml").read_text())
    (job,) = configuration.values()
    assert set(job) == {"image", "variables", "script", "after_script"}, job
    assert all(isinstance(line, str) for line in [*job["script"], *job["after_script"]]), job


def test_both_jobs_run_the_same_commands() -> None:
    """The GitHub job and the GitLab job run the same commands, with the same server URL."""
    github, gitlab = (JOBS[name]((EXAMPLES / name).read_text()) for name in ("github.yml", "gitlab.yml"))
    assert github.scripts == gitlab.scripts[0].split("\n")
    assert github.variables["ORDERS_URL"] == gitlab.variables["ORDERS_URL"]


@pytest.mark.parametrize("name", JOBS)
def test_the_job_tests_the_client_against_the_server(workspace: Workspace, name: str) -> None:
    """The client's tests find the server with its controls at ORDERS_URL, and the job succeeds."""
    code, output = workspace.run_job(read_job(name, free_port()))
    assert code == 0, output
    answers = '{"message": "Successfully reset"}{"message": "There are no orders assigned to you"}'
    assert answers in output and "GET /order/acquire" not in output, output


@pytest.mark.parametrize("name", JOBS)
def test_the_job_prints_the_log_if_the_tests_fail(workspace: Workspace, name: str) -> None:
    """If the client's tests fail, the job fails too, and prints the server's log with their requests."""
    with (workspace.directory / "test-client").open("a") as client:
        client.write("exit 3\n")
    code, output = workspace.run_job(read_job(name, free_port()))
    assert code == 3, output
    assert re.search(r"^\S+ GET /order/acquire\?executor_id=executor-1 200 ", output, re.MULTILINE), output


@pytest.mark.parametrize("name", JOBS)
def test_a_server_that_cannot_start_fails_the_job(workspace: Workspace, name: str) -> None:
    """If the port is taken, the client's tests do not run, and the job prints the reason."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, output = workspace.run_job(read_job(name, port))
    assert code == 1, output
    assert output.endswith(f"orders: cannot listen on 127.0.0.1:{port}: Address already in use\n"), output


def test_the_job_does_not_print_the_log_if_the_tests_succeed(workspace: Workspace) -> None:
    """GitLab always runs `after_script`, which prints the log only if the job failed."""
    job = read_job("gitlab.yml", free_port())
    (workspace.directory / "orders.log").write_text("the log\n")
    job.variables["CI_JOB_STATUS"] = "success"
    code, output = workspace.run_script(job.failure_scripts[0], job)
    assert code == 0 and "the log" not in output, output


# A stand-in for an implementation of the service. Its output would hold up the end of the script.
SERVE = f"""\
#!/usr/bin/env bash
exec {sys.executable} -m orders serve --database sqlite:///:memory: "$@" > serve.log 2>&1
"""


def github_contract_job(text: str) -> Job:
    """Return the job for GitHub, with the scripts of this project's action in the place of the action."""
    (job,) = yaml.safe_load(text)["jobs"].values()
    scripts: list[str] = []
    variables: dict[str, str] = {}
    for step in job["steps"]:
        if step.get("uses") == "REPOSITORY@main":
            action = yaml.safe_load((ROOT / "action.yml").read_text())
            inputs = {name: value.get("default") for name, value in action["inputs"].items()} | step["with"]
            for part in action["runs"]["steps"]:
                scripts += [part["run"]] if "run" in part else []
                variables |= {name: filled_in(value, inputs) for name, value in part.get("env", {}).items()}
        elif "run" in step:
            scripts.append(step["run"])
    return Job(variables, scripts, [], ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"))


def gitlab_contract_job(text: str) -> Job:
    """Return the job for GitLab: the component, with the example's inputs filled in."""
    (include,) = yaml.safe_load(text)["include"]
    assert include["component"] == "$CI_SERVER_FQDN/PROJECT/contract@main"
    header, template = component()
    defaults = {name: value.get("default") for name, value in header["spec"]["inputs"].items()}
    (job,) = yaml.safe_load(filled_in(template, defaults | include["inputs"])).values()
    return Job({}, ["\n".join(job["script"])], [], ("bash", "-eo", "pipefail", "-c"))


def component() -> tuple[Any, str]:
    """Return the header of the GitLab component, and its text without the header."""
    header, _, template = (ROOT / "templates" / "contract.yml").read_text().partition("\n---\n")
    return yaml.safe_load(header), template


def filled_in(text: str, inputs: dict[str, str]) -> str:
    """Return a text with its inputs filled in, as GitHub or GitLab does it."""
    text = text.replace("${{ github.action_path }}", "REPOSITORY")
    return re.sub(r"\$\{\{ inputs\.(\w+) \}\}|\$\[\[ inputs\.(\w+) \]\]", lambda m: inputs[m[1] or m[2]], text)


CONTRACT_JOBS = {"github-contract.yml": github_contract_job, "gitlab-contract.yml": gitlab_contract_job}


@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize("name", CONTRACT_JOBS)
def test_the_job_tests_an_implementation(workspace: Workspace, name: str) -> None:
    """The job installs the suite from this project, starts the server, checks it and keeps the report."""
    serve, clone, port = workspace.directory / "serve", workspace.directory.parent / "clone", free_port()
    serve.write_text(SERVE)
    serve.chmod(0o755)
    make_clone(clone)
    job = CONTRACT_JOBS[name]((EXAMPLES / name).read_text())

    def localised(text: str) -> str:
        # Some releases of pip accept no git URL of a file. tests/install installs from one.
        text = text.replace("git+REPOSITORY", clone.as_uri())
        return text.replace("8080", str(port)).replace("REPOSITORY", str(clone))

    job.variables = {variable: localised(value) for variable, value in job.variables.items()}
    job.variables |= {"RUNNER_TEMP": str(clone.parent), "HOME": str(clone.parent)}
    if "OPTIONS" in job.variables:
        job.variables["OPTIONS"] = "--budget brief"
    job.scripts = [localised(script) for script in job.scripts]
    code, output = workspace.run_job(job)
    assert code == 0, output
    report = json.loads((workspace.directory / "contract-report" / "report.json").read_text())
    assert (report["exit_code"], report["url"]) == (0, f"http://127.0.0.1:{port}"), output


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("github-actions", "action.yml"),
        ("github-workflows", "examples/ci/github.yml"),
        ("github-workflows", "examples/ci/github-contract.yml"),
        ("gitlab-ci", "examples/ci/gitlab.yml"),
        ("gitlab-ci", "examples/ci/gitlab-contract.yml"),
        ("gitlab-ci", "templates/contract.yml"),
    ],
)
def test_the_file_follows_the_schema_of_its_service(schema: str, name: str, tmp_path: Path) -> None:
    """The schema of GitHub or GitLab accepts the file."""
    file = ROOT / name
    if name.startswith("templates"):
        # The schema knows components only without their header, which is a YAML document of its own.
        header, template = component()
        file = tmp_path / "component.yml"
        file.write_text(filled_in(template, dict.fromkeys(header["spec"]["inputs"], "x")))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
