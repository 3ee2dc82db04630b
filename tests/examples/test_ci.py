"""examples/ci: the CI jobs are well-formed, and their commands test a small client against the server."""

import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from harness.postgresql import free_port
from harness.processes import clean_environment, end_group, path_with, start

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "ci"
TIMEOUT_S = 60

CLIENT = """\
#!/usr/bin/env bash
set -euo pipefail
curl --silent --show-error --fail --noproxy '*' --request POST "$ORDERS_URL/_controls/reset"
curl --silent --show-error --fail --noproxy '*' "$ORDERS_URL/order/acquire?executor_id=executor-1"
"""
# tests/examples/test_pages.py tests the installation. Here the checkout's code runs, and `pip install` only checks
# that there is a project to install.
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


def read_job(name: str, workspace: Workspace, port: int) -> Job:
    """Return a job that uses `port`, and this project as REPOSITORY."""
    text = (EXAMPLES / name).read_text().replace("8080", str(port))
    if name == "github.yml":
        # On GitHub, an action does the checkout.
        shutil.copytree(ROOT / "orders", workspace.directory / "orders-service" / "orders")
        shutil.copy(ROOT / "pyproject.toml", workspace.directory / "orders-service")
    return JOBS[name](text.replace("REPOSITORY", str(ROOT)))


def test_the_github_workflow_is_well_formed() -> None:
    """The workflow checks out both repositories, and every step is an action or a script."""
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
    assert actions == ["actions/checkout@v4", "actions/checkout@v4", "actions/setup-python@v5"]
    assert job["steps"][1]["with"] == {"repository": "REPOSITORY", "path": "orders-service"}


def test_the_gitlab_job_is_well_formed() -> None:
    """The job clones this project, and every line of its scripts is a string."""
    configuration = yaml.safe_load((EXAMPLES / "gitlab.yml").read_text())
    (job,) = configuration.values()
    assert set(job) == {"image", "variables", "script", "after_script"}, job
    assert all(isinstance(line, str) for line in [*job["script"], *job["after_script"]]), job
    assert job["script"][0].endswith(" REPOSITORY orders-service"), job


def test_both_jobs_run_the_same_commands() -> None:
    """The GitHub job and the GitLab job run the same commands, with the same server URL."""
    github, gitlab = (JOBS[name]((EXAMPLES / name).read_text()) for name in ("github.yml", "gitlab.yml"))
    assert github.scripts == gitlab.scripts[0].split("\n")[1:]
    assert github.variables["ORDERS_URL"] == gitlab.variables["ORDERS_URL"]


@pytest.mark.parametrize("name", JOBS)
def test_the_job_tests_the_client_against_the_server(workspace: Workspace, name: str) -> None:
    """The client's tests find the server with its controls at ORDERS_URL, and the job succeeds."""
    code, output = workspace.run_job(read_job(name, workspace, free_port()))
    assert code == 0, output
    answers = '{"message": "Successfully reset"}{"message": "There are no orders assigned to you"}'
    assert answers in output and "GET /order/acquire" not in output, output


@pytest.mark.parametrize("name", JOBS)
def test_the_job_prints_the_log_if_the_tests_fail(workspace: Workspace, name: str) -> None:
    """If the client's tests fail, the job fails too, and prints the server's log with their requests."""
    with (workspace.directory / "test-client").open("a") as client:
        client.write("exit 3\n")
    code, output = workspace.run_job(read_job(name, workspace, free_port()))
    assert code == 3, output
    assert re.search(r"^\S+ GET /order/acquire\?executor_id=executor-1 200 ", output, re.MULTILINE), output


@pytest.mark.parametrize("name", JOBS)
def test_a_server_that_cannot_start_fails_the_job(workspace: Workspace, name: str) -> None:
    """If the port is taken, the client's tests do not run, and the job prints the reason."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, output = workspace.run_job(read_job(name, workspace, port))
    assert code == 1, output
    assert output.endswith(f"orders: cannot listen on 127.0.0.1:{port}: Address already in use\n"), output


def test_the_job_does_not_print_the_log_if_the_tests_succeed(workspace: Workspace) -> None:
    """GitLab always runs `after_script`, which prints the log only if the job failed."""
    job = read_job("gitlab.yml", workspace, free_port())
    (workspace.directory / "orders.log").write_text("the log\n")
    job.variables["CI_JOB_STATUS"] = "success"
    code, output = workspace.run_script(job.failure_scripts[0], job)
    assert code == 0 and "the log" not in output, output
