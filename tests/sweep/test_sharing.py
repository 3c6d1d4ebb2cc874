"""Trials that share a GPU, one whose memory runs out there, and GPUs of a kind: on a cluster with one logical GPU."""

import os
import re
import subprocess
import sys

import pytest
import ray

from tests.repository import REPOSITORY
from tests.running import trial_rows, write_sweep
from toconv.errors import RequestError

pytestmark = pytest.mark.slow
ON_ONE_GPU = """
import sys, ray
from toconv.__main__ import main
ray.init("local", num_cpus=2, num_gpus=1, resources={"accelerator_type:H100": 1}, include_dashboard=False)
sys.exit(main(["sweep", *sys.argv[1:]]))
"""
# n_critic of the trials whose memory runs out beside another one, there as they are set up, and always
CROWDED, CROWDED_AT_ONCE, NEVER_FITS = 1, 4, 2
OUT_OF_MEMORY = f"""
import importlib.abc, importlib.util, sys

class Patched(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "toconv.sweep.trainable":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), patch(module))
        return spec

def patch(module):
    import ray, torch
    inner, training = module.step, module.Training
    def on():
        return ray.get_runtime_context().get_assigned_resources()["GPU"]
    def fail():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    def note(n_critic):
        with open("gpus", "a") as file:
            file.write(f"{{n_critic}} {{on():g}}\\n")
    def step(trial):
        n_critic = trial._resumable.training.settings.training.n_critic
        if n_critic == {NEVER_FITS} or (n_critic == {CROWDED} and on() < 1):
            trial.next_epoch = fail
        note(n_critic)
        return inner(trial)
    def set_up(settings, *given):
        if settings.training.n_critic == {CROWDED_AT_ONCE} and on() < 1:
            note({CROWDED_AT_ONCE})
            fail()
        return training(settings, *given)
    module.step, module.Training = step, set_up

sys.meta_path.insert(0, Patched())
"""


@pytest.fixture
def sweep(tiny, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(OUT_OF_MEMORY.replace('"gpus"', repr(str(tmp_path / "gpus"))))
    grid = {"model.compressor.output_grid_size": [2], "training.n_critic": [CROWDED, CROWDED_AT_ONCE, NEVER_FITS, 3]}
    settings = {**tiny, "experiment.tracking_uri": f"sqlite:///{tmp_path}/m.db"}
    resources = {"cpu": 1, "gpu": 0.5, "accelerator": "H100"}
    search = {"loss.lambda_gp": {"low": 0.1, "high": 100}}
    file = write_sweep(tmp_path, settings, grid=grid, search=search, trials=1, resources=resources, sampler="random")

    def run(*words):
        return subprocess.run(
            [sys.executable, "-c", ON_ONE_GPU, str(file), *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": f"{site}:{REPOSITORY}"},
        )

    return run


def test_a_trial_whose_memory_runs_out_is_tried_alone_before_it_counts_as_infeasible(sweep, tmp_path):
    done = sweep("baselines=false")
    assert done.returncode == 3, done.stdout + done.stderr
    states = {(int(row["training.n_critic"]), row["state"]) for row in trial_rows(tmp_path)}
    assert states == {*((CROWDED, "complete"), (CROWDED_AT_ONCE, "complete"), (3, "complete")), (NEVER_FITS, "failed")}
    seen = [tuple(line.split()) for line in (tmp_path / "gpus").read_text().splitlines()]
    assert {gpu for n_critic, gpu in seen if n_critic == "3"} == {"0.5"}
    for n_critic in (CROWDED, CROWDED_AT_ONCE, NEVER_FITS):
        gpus = [gpu for n, gpu in seen if n == str(n_critic)]
        assert gpus[0] == "0.5" and "1" in gpus and gpus == sorted(gpus), "beside others first, then alone"
    told = re.sub(r"\s+", " ", done.stdout)
    assert "2 trial(s) at a time" in told
    assert "CUDA out of memory. Tried to allocate 2.00 GiB; it is tried once more, alone on a GPU" in told
    assert "worker died" not in told


def test_a_kind_that_no_machine_has_is_a_wrong_request(sweep):
    done = sweep("resources.accelerator=A100")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "resources.accelerator=A100: the cluster has H100" in done.stderr


def test_only_machines_with_the_kind_count():
    from ray.cluster_utils import Cluster as Nodes

    from toconv.sweep.cluster import _having

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=3, num_gpus=2, resources={"accelerator_type:L4": 1})
    ray.init(nodes.address, include_dashboard=False, log_to_driver=False)
    try:
        (found,) = _having("L4")
        assert (found["CPU"], found["GPU"]) == (3, 2)
        with pytest.raises(RequestError, match="resources.accelerator=T4: the cluster has L4"):
            _having("T4")
    finally:
        ray.shutdown()
        nodes.shutdown()
