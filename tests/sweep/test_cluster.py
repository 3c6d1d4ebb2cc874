"""A cluster that does not answer ends a start in time, with the address and how to be without it."""

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests import ray_cluster
from tests.repository import REPOSITORY
from tests.running import write_sweep
from toconv.errors import MachineryError, RequestError
from toconv.sweep.fits import usable
from toconv.sweep.schema import Resources

IMPATIENT = (
    "import sys, toconv.sweep.cluster as c; c.JOIN_SECONDS = {seconds}; from toconv.__main__ import main;"
    "sys.exit(main(['sweep', *sys.argv[1:]]))"
)


def start(folder, tiny, address, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", IMPATIENT.format(seconds=seconds), str(write_sweep(folder, tiny))],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": address},
    )


@pytest.mark.slow
@pytest.mark.parametrize("listens", [False, True])
def test_a_cluster_that_is_gone_ends_the_start_before_any_work(tiny, tmp_path, listens):
    """Nobody at the port; and somebody who accepts and never answers."""
    with socket.socket() as server:
        server.bind(("", 0))
        if listens:
            server.listen()
        process = start(tmp_path, tiny, address := f"127.0.0.1:{server.getsockname()[1]}", 2)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 4, stdout + stderr
    assert f"RAY_ADDRESS={address} names it" in stderr and "unset RAY_ADDRESS" in stderr and "to go on: " in stderr
    assert not (tmp_path / "tokens").exists() and "Traceback" not in stderr


@pytest.mark.slow
def test_sigterm_ends_the_wait_for_a_cluster_at_once(tiny, tmp_path):
    process = start(tmp_path, tiny, "127.0.0.1:1", 1000)
    assert process.stdout.readline().startswith("toconv sweep; ")
    time.sleep(4)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "to go on: " in stderr


@pytest.mark.slow
@pytest.mark.parametrize("where", ["environment", "home"])
def test_a_cluster_that_asks_for_a_token_is_shown_the_users(tmp_path, where):
    """As after `ray start` on a machine where Ray has made a token."""
    cluster = ray_cluster.environment()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = {**clean, "RAY_ADDRESS": cluster["RAY_ADDRESS"], "PYTHONPATH": str(REPOSITORY)}
    if where == "environment":
        environment["RAY_AUTH_TOKEN"] = cluster["RAY_AUTH_TOKEN"]
    else:
        file = tmp_path / ".ray" / "auth_token"
        file.parent.mkdir()
        file.write_text(cluster["RAY_AUTH_TOKEN"])
        environment["HOME"] = str(tmp_path)
    code = "from toconv.sweep.cluster import Cluster; print(Cluster().machines()[0]['CPU'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and float(done.stdout) >= 1, done.stderr


def test_a_gcs_at_an_address_of_ipv6_is_not_gone_until_it_is(tmp_path, monkeypatch):
    from toconv.sweep.cluster import ray, unreachable

    with socket.socket(socket.AF_UNIX) as raylet, socket.socket(socket.AF_INET6) as gcs:
        try:
            gcs.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        raylet.bind(str(tmp_path / "raylet"))
        raylet.listen()
        gcs.listen()
        node = SimpleNamespace(gcs_address=f"[::1]:{gcs.getsockname()[1]}", raylet_socket_name=str(tmp_path / "raylet"))
        monkeypatch.setattr(ray._private.worker, "_global_node", node)
        assert unreachable() is None
        gcs.close()
        assert unreachable() == "Ray's GCS on this machine is gone (Connection refused)"
        raylet.close()
        assert unreachable() == "Ray's raylet on this machine is gone (Connection refused)"


def test_a_call_that_hangs_ends_in_time():
    from toconv.sweep.cluster import within

    assert within(5, lambda: {"CPU": 2.0}, "no") == {"CPU": 2.0}
    with pytest.raises(MachineryError, match="Ray did not say .no answer within 0 s"):
        within(0.1, lambda: time.sleep(2) or {}, "Ray did not say")
    with pytest.raises(MachineryError, match="Ray did not say .division by zero"):
        within(5, lambda: {"CPU": 1 / 0}, "Ray did not say")


@pytest.mark.parametrize(
    ("asked", "present", "slots"),
    [
        ((1, 1), [(4, 2)], 2),
        ((1, 1), [(4, 0)], 4),
        ((1, 0.5), [(8, 1)], 2),
        ((0.1, 0), [(1, 0)], 10),
        ((1, 0.2), [(9, 1)], 5),
        ((1, 0.3), [(64, 8)], 24),  # no trial lies on two GPUs
        ((2, 0), [(3, 0), (3, 0), (1, 0)], 2),  # nor on two machines
        ((1, 2), [(9, 3), (9, 1), (9, 2)], 2),
        ((4, 1), [(2, 1), (4, 1), (16, 0)], 1),
    ],
)
def test_as_many_trials_as_fit(asked, present, slots):
    cpu, gpu = asked
    found, count = usable(Resources(cpu=cpu, gpu=gpu), [{"CPU": cpus, "GPU": gpus} for cpus, gpus in present])
    assert count == slots and found.gpu == (gpu if any(gpus for _, gpus in present) else 0)


@pytest.mark.parametrize(("cpu", "gpu"), [(8, 1), (1, 4)])
def test_a_trial_that_does_not_fit_is_a_wrong_request(cpu, gpu):
    with pytest.raises(RequestError, match=f"cpu={cpu}.*gpu={gpu}.*the cluster has cpu=4, gpu=2"):
        usable(Resources(cpu=cpu, gpu=gpu), [{"CPU": 4, "GPU": 2}])
    with pytest.raises(RequestError, match=r"no machine of the cluster has that \(4 with cpu=4, gpu=2\)"):
        usable(Resources(cpu=cpu, gpu=gpu), [{"CPU": 4, "GPU": 2}] * 4)
