"""examples/ci: the jobs, read as a CI service reads them, and their commands, run beside a tiny client."""

import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from harness.processes import end_group, path_with, start, without_orders_variables

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "ci"
TIMEOUT_S = 60

CLIENT = """\
#!/usr/bin/env bash
set -euo pipefail
curl --silent --show-error --fail --noproxy '*' --request POST "$ORDERS_URL/_controls/reset"
curl --silent --show-error --fail --noproxy '*' "$ORDERS_URL/order/acquire?executor_id=executor-1"
"""
# The installation itself is tested in tests/test_readme.py. Here the checkout's own code runs, and what is left of
# `pip install` is that it is asked for a project that is there.
PIP = """\
#!/usr/bin/env bash
[[ $# == 2 && $1 == install && -f $2/pyproject.toml ]]
"""
ORDERS = f"""\
#!/usr/bin/env bash
exec {sys.executable} -m orders "$@"
"""


@dataclass
class Job:
    """A job of one of the CI services: its variables, the scripts that it runs, and those for a failure."""

    variables: dict[str, str]
    scripts: list[str]
    failure_scripts: list[str]
    shell: tuple[str, ...]


def github_job(text: str) -> Job:
    """Return the job of the GitHub Actions workflow; each step is a script of its own."""
    steps = yaml.safe_load(text)["jobs"]["client"]["steps"]
    scripts = [step for step in steps if "run" in step]
    return Job(
        variables=yaml.safe_load(text)["jobs"]["client"]["env"],
        scripts=[step["run"] for step in scripts if "if" not in step],
        failure_scripts=[step["run"] for step in scripts if step.get("if") == "failure()"],
        shell=("bash", "-e", "-c"),
    )


def gitlab_job(text: str) -> Job:
    """Return the job of the GitLab CI configuration; all of its lines are one script, and those after it another."""
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
    """The repository of a client, in which a job runs."""

    directory: Path
    groups: list[int] = field(default_factory=list)

    def run_script(self, script: str, job: Job) -> tuple[int, str]:
        """Run a script as the CI service does; return its exit code and what it printed."""
        programs = self.directory.parent / "programs"
        process = start(
            [*job.shell, f"exec 2>&1\n{script}"],
            cwd=self.directory,
            env=without_orders_variables({"PATH": path_with(programs), **job.variables}),
        )
        self.groups.append(process.pid)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    def run_job(self, job: Job) -> tuple[int, str]:
        """Run a job up to the first script that fails, then those for a failure; return the code and all output."""
        outputs = []
        for script in job.scripts:
            code, output = self.run_script(script, job)
            outputs.append(output)
            if code != 0:
                outputs += [self.run_script(script, job)[1] for script in job.failure_scripts]
                break
        return code, "".join(outputs)

    def end(self) -> None:
        """End what the scripts left running, as the CI service does at the end of a job."""
        for group in self.groups:
            end_group(group)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """The repository of a client, with this project checked out beside it."""
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


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def read_job(name: str, workspace: Workspace, port: int) -> Job:
    """Return a job, on a port of its own, with this project in the place of REPOSITORY."""
    text = (EXAMPLES / name).read_text().replace("8080", str(port))
    if name == "github.yml":
        # The checkout is an action of GitHub's.
        shutil.copytree(ROOT / "orders", workspace.directory / "orders-service" / "orders")
        shutil.copy(ROOT / "pyproject.toml", workspace.directory / "orders-service")
    return JOBS[name](text.replace("REPOSITORY", str(ROOT)))


def test_the_github_workflow_has_the_shape_of_one() -> None:
    """The workflow checks out both repositories, and every step is an action or a script."""
    text = (EXAMPLES / "github.yml").read_text()
    # In YAML 1.1, which this parser reads, `on` is a truth value.
    workflow = yaml.safe_load(text)
    assert set(workflow) == {"name", True, "jobs"} and workflow[True] == ["push", "pull_request"], workflow
    (job,) = workflow["jobs"].values()
    assert set(job) == {"runs-on", "env", "steps"}, job
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step) and set(step) <= {"uses", "with", "run", "if"}, step
        assert step.get("if", "failure()") == "failure()", step
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert actions == ["actions/checkout@v4", "actions/checkout@v4", "actions/setup-python@v5"]
    assert job["steps"][1]["with"] == {"repository": "REPOSITORY", "path": "orders-service"}


def test_the_gitlab_job_has_the_shape_of_one() -> None:
    """The job clones the service, and every line of its scripts is text."""
    configuration = yaml.safe_load((EXAMPLES / "gitlab.yml").read_text())
    (job,) = configuration.values()
    assert set(job) == {"image", "variables", "script", "after_script"}, job
    assert all(isinstance(line, str) for line in [*job["script"], *job["after_script"]]), job
    assert job["script"][0].endswith(" REPOSITORY orders-service"), job


def test_both_jobs_run_the_same_commands() -> None:
    """From the installation to the client's tests, the two services are told the same."""
    github, gitlab = (JOBS[name]((EXAMPLES / name).read_text()) for name in ("github.yml", "gitlab.yml"))
    assert github.scripts == gitlab.scripts[0].split("\n")[1:]
    assert github.variables["ORDERS_URL"] == gitlab.variables["ORDERS_URL"]


@pytest.mark.parametrize("name", JOBS)
def test_the_client_is_tested_against_the_server(workspace: Workspace, name: str) -> None:
    """The client's tests find the server ready at ORDERS_URL, with its controls, and the job succeeds."""
    code, output = workspace.run_job(read_job(name, workspace, free_port()))
    assert code == 0, output
    answers = '{"message": "Successfully reset"}{"message": "There are no orders assigned to you"}'
    assert answers in output and "GET /order/acquire" not in output, output


@pytest.mark.parametrize("name", JOBS)
def test_the_log_is_shown_if_the_tests_fail(workspace: Workspace, name: str) -> None:
    """If the client's tests fail, so does the job, and the server's log has the requests that they sent."""
    with (workspace.directory / "test-client").open("a") as client:
        client.write("exit 3\n")
    code, output = workspace.run_job(read_job(name, workspace, free_port()))
    assert code == 3, output
    assert re.search(r"^\S+ GET /order/acquire\?executor_id=executor-1 200 ", output, re.MULTILINE), output


@pytest.mark.parametrize("name", JOBS)
def test_a_server_that_cannot_start_fails_the_job(workspace: Workspace, name: str) -> None:
    """If the port is taken, the client's tests do not run, and the log says why."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, output = workspace.run_job(read_job(name, workspace, port))
    assert code == 1, output
    assert output.endswith(f"orders: cannot listen on 127.0.0.1:{port}: Address already in use\n"), output


def test_the_log_is_not_shown_if_the_tests_succeed(workspace: Workspace) -> None:
    """GitLab runs what comes after the tests in any case; it shows the log only if they failed."""
    job = read_job("gitlab.yml", workspace, free_port())
    (workspace.directory / "orders.log").write_text("the log\n")
    job.variables["CI_JOB_STATUS"] = "success"
    code, output = workspace.run_script(job.failure_scripts[0], job)
    assert code == 0 and "the log" not in output, output
