"""deploy/: each file by its tool's own validator, what it shares with the code, and the Slurm script's course."""

import copy
import importlib.util
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from tests.machines import machines
from tests.repository import REPOSITORY
from toconv.sweep.file import load_sweep

DEPLOY = REPOSITORY / "deploy"
SCHEMAS = {  # file: the package that has its schema, and where
    "ray_cluster.yaml": ("ray", "autoscaler/ray-schema.json"),
    "mlflow.compose.yaml": ("check_jsonschema", "builtin_schemas/vendor/compose-spec.json"),
}
STAND_INS = {
    "srun": 'echo "$@" >> calls; exec sleep 60',
    "ray": 'echo "ray $@" >> calls',
    "python": """
if [[ $2 == *slurm_job* ]]; then # it waits for all machines
    until [[ $(grep -c "ray start" calls) == 2 ]]; do sleep 0.1; done
fi""",
    "scontrol": 'echo "scontrol $@" >> calls',
    "toconv": """
trap 'echo ended >> calls; exit 130' TERM
echo "toconv $@ at $RAY_ADDRESS" >> calls
if [[ $2 == failed.yaml ]]; then exit 3; fi
echo begun
for ((i = 0; i < 600; i++)); do sleep 0.1; done""",
}
JOB = 100 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # each process has ports of its own
ALLOCATION = {
    "SLURM_JOB_ID": str(JOB),
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_CPUS_ON_NODE": "64",
    "SLURMD_NODENAME": "first",
}
PORT = 20000 + 2 * JOB


def read(name):
    return (DEPLOY / name).read_text()


def tool(name, *arguments):
    done = subprocess.run([Path(sys.executable).with_name(name), *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "where"), SCHEMAS.items())
def test_a_file_is_valid_by_its_schema_and_with_a_misspelt_key_is_not(name, where):
    package, path = where
    schema = json.loads((Path(importlib.util.find_spec(package).origin).parent / path).read_text())
    content = yaml.safe_load(read(name))
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        jsonschema.validate({**content, "misspelt": 1}, schema)


def test_each_pod_of_the_job_is_one_of_kubernetes_and_with_a_misspelt_key_is_not():
    cluster = yaml.safe_load(read("ray_job.yaml"))["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(group["template"])}
        newest = kubernetes_validate.latest_version()
        kubernetes_validate.validate(pod, newest, strict=True)
        pod["spec"]["containers"][0]["misspelt"] = 1
        with pytest.raises(kubernetes_validate.ValidationError, match="misspelt"):
            kubernetes_validate.validate(pod, newest, strict=True)


def test_the_dockerfile_is_taken_by_hadolint_and_copies_what_its_context_holds():
    assert tool("hadolint", DEPLOY / "Dockerfile") == (0, "")
    lines = read("Dockerfile").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert {line[1:] for line in read("Dockerfile.dockerignore").splitlines() if line.startswith("!")} == copied
    assert all((REPOSITORY / name).exists() for name in copied)


def test_the_slurm_script_is_taken_by_bash_and_shellcheck():
    assert tool("shellcheck", DEPLOY / "slurm.sh") == (0, "")
    assert subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"]).returncode == 0


def test_each_file_says_how_it_was_checked_and_whether_it_was_run():
    for path in DEPLOY.iterdir():
        if path.name != "Dockerfile.dockerignore":
            head = path.read_text().partition("\n\n")[0]
            assert ("# Checked by " in head or "# Held against " in head) and "Not " in head, path.name


def test_the_job_names_the_ray_that_is_installed():
    ray = next(
        Requirement(line) for line in (REPOSITORY / "requirements.txt").read_text().splitlines() if "ray" in line
    )
    assert f"=={yaml.safe_load(read('ray_job.yaml'))['spec']['rayClusterSpec']['rayVersion']}" == str(ray.specifier)


def test_each_sweep_that_a_file_starts_is_a_valid_request(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    entrypoint = yaml.safe_load(read("ray_job.yaml"))["spec"]["entrypoint"]
    cluster = next(line for line in read("ray_cluster.yaml").splitlines() if "toconv sweep" in line).strip("# '")
    slurm = next(line for line in read("slurm.sh").splitlines() if "sbatch" in line)
    for line, before in ((entrypoint, "sweep"), (cluster, "sweep"), (slurm, "deploy/slurm.sh")):
        words = shlex.split(line, comments=False)
        file, *overrides = words[words.index(before) + 1 :]
        load_sweep(REPOSITORY / file.removeprefix("/toconv/"), overrides)


def test_the_secrets_of_mlflow_come_from_the_environment_and_it_does_not_start_without():
    services = yaml.safe_load(read("mlflow.compose.yaml"))["services"].values()
    given = [(name, text) for service in services for name, text in service["environment"].items()]
    secret = [text for name, text in given if "PASSWORD" in name or "SECRET" in name]
    assert len(secret) == 4 and all(text.startswith("${") and text.endswith(":?}") for text in secret)


@pytest.fixture
def allocation(tmp_path):
    """Starts the script in a folder whose commands are stand-ins that write down their arguments."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    started = []

    def start(*arguments, **stand_ins):
        for name, text in (STAND_INS | stand_ins).items():
            path = tmp_path / ".venv" / "bin" / name
            path.write_text(f"#!/bin/bash\n{text}\n")
            path.chmod(0o755)
        begun = {"env": {**os.environ, **ALLOCATION}, "cwd": tmp_path, "text": True, "start_new_session": True}
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([DEPLOY / "slurm.sh", *arguments], **told, **begun)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def test_one_machine_is_the_head_the_others_join_it_and_the_sweep_s_exit_code_is_the_job_s(allocation, tmp_path):
    assert allocation("failed.yaml", "name=mine").wait(50) == 3
    calls = (tmp_path / "calls").read_text().splitlines()
    steps = sorted(call for call in calls if "ray start" in call)
    on_each = "--cpus-per-task=64"
    assert steps[0].startswith(f"--nodes=1 --ntasks=1 {on_each} --nodelist=first ray start ") and "--head" in steps[0]
    assert steps[1].startswith(f"--nodes=2 --ntasks=2 {on_each} --exclude=first ray start ") and len(steps) == 2
    address = steps[1].partition("--address=")[2]
    assert (
        address.endswith(f":{PORT}")
        and f"--port={PORT} " in steps[0]
        and f"ray health-check --address {address}" in calls
    )
    assert f"toconv sweep failed.yaml name=mine at {address}" in calls
    assert not [call for call in calls if "scontrol" in call]


def test_a_signal_before_the_time_is_over_ends_the_sweep_which_is_queued_again(allocation, tmp_path):
    process = allocation("mine.yaml")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(50) == 130
    assert (tmp_path / "calls").read_text().splitlines()[-2:] == ["ended", f"scontrol requeue {JOB}"]


def test_a_sweep_that_a_signal_ends_before_it_hears_of_signals_is_queued_again(allocation, tmp_path):
    process = allocation("mine.yaml", toconv="echo begun; exec sleep 60")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(50) == 128 + signal.SIGTERM
    assert (tmp_path / "calls").read_text().splitlines()[-1] == f"scontrol requeue {JOB}"


@pytest.mark.parametrize(
    ("ended", "ray"),
    [("--head", "[[ $1 != health-check ]]"), ("--head", "true"), ("--address", "true")],
    ids=["the head", "the head, and another cluster answers", "another machine's"],
)
def test_a_ray_that_ends_before_the_sweep_begins_ends_the_job_at_once(allocation, tmp_path, ended, ray):
    srun = f'echo "$@" >> calls; if [[ $* == *" {ended}"* ]]; then sleep 1; exit 1; fi; exec sleep 60'
    begun = time.monotonic()
    job = allocation("mine.yaml", srun=srun, ray=ray, python="if [[ $2 == *slurm_job* ]]; then sleep 60; fi")
    told = job.communicate(timeout=50)[1]
    assert job.returncode == 4 and time.monotonic() - begun < 50
    assert "Ray ended before the sweep began (its head is at " in told and f", ports {PORT} and {PORT + 1})" in told
    assert "toconv" not in (tmp_path / "calls").read_text()


def test_a_port_that_something_has_ends_the_job_before_ray_is_started(allocation, tmp_path):
    with socket.create_server(("0.0.0.0", PORT)):
        job = allocation("mine.yaml")
        told = job.communicate(timeout=50)[1]
    assert job.returncode == 4 and f"port {PORT} of " in told and "is taken" in told
    assert (tmp_path / "calls").read_text().splitlines() == ["ray get-auth-token --generate"]


@pytest.mark.slow
def test_machines_of_another_cluster_are_not_taken_for_the_job_s(tmp_path):
    waits = read("slurm.sh").partition("ALL='")[2].partition("'\n")[0]
    with machines(tmp_path) as cluster:
        words = [sys.executable, "-c", waits, cluster.environment["RAY_ADDRESS"]]
        assert subprocess.run([*words, "7", "0"], env=cluster.environment, timeout=60).returncode == 0
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([*words, "7", "1"], env=cluster.environment, timeout=15)
