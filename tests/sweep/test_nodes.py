"""The machines of a cluster that is joined: two nodes of Ray's own command, of which one has another disk."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.repository import REPOSITORY
from toconv.paths import packed
from toconv.sweep.nodes import Machine, look, mistakes, versions

RAY = [
    str(Path(sys.executable).with_name("ray")),
    "start",
    "--num-cpus=1",
    "--block",
    "--disable-usage-stats",
    "--node-ip-address=127.0.0.1",
]
JOIN = """
import sys
from pathlib import Path
from toconv.errors import MachineryError
from toconv.sweep.cluster import Cluster, devices, on_each_node
from toconv.config import compose
cluster = Cluster()
cluster.resources()
from toconv.sweep.nodes import check_nodes
import ray

def package():
    import toconv.paths
    return str(toconv.paths.PACKAGE), toconv.paths.CONF.is_dir()

shared, hidden = map(Path, sys.argv[1:])
for place, has_conf in on_each_node(package, []).values():
    print("package", "py_modules_files" in place, has_conf)
print("devices", devices(compose({}).hardware))
check_nodes([shared])
print("shared by all", [*shared.iterdir()])
try:
    check_nodes([shared, hidden])
except MachineryError as error:
    print("refused:", error)
cluster.stop()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def iter_until(lines, text):
    for line in lines:
        yield line
        if text in line:
            return


def test_what_differs_between_machines_is_named_with_both_values(tmp_path):
    here = versions()
    (tmp_path / "probe").touch()
    assert look([tmp_path / "probe"]) == Machine(here, [])
    other = {**here, "torch": "2.0.0"}
    (told,) = mistakes("b (1234)", Machine(other, []), here)
    assert told == f"b (1234) has torch 2.0.0, this machine {here['torch']}: all must have the same"
    (told,) = mistakes("b (1234)", Machine(here, ["/data/tokens"]), here)
    assert told.startswith("b (1234) does not see /data/tokens: ")
    assert not [*mistakes("b", Machine(here, []), here)]


def test_a_packed_package_is_laid_out_as_an_installed_one(tmp_path):
    with packed() as package:
        code = "from toconv import config, paths; print(paths.PACKAGE, config.compose({}).encoder.name)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(package.parent)},
            text=True,
            capture_output=True,
            check=True,
        )
        assert done.stdout.split() == [str(package.resolve()), "vit_s_14_336"]
    assert not package.exists()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own is mounted for one node")
def test_a_cluster_of_two_gets_the_package_and_a_folder_that_one_does_not_see_is_refused(tmp_path):
    shared, hidden = tmp_path / "shared", tmp_path / "hidden"
    short = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
    for folder in (shared, hidden, tmp_path / "elsewhere"):
        folder.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHONPATH"))}
    environment = {**clean, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64}
    environment |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        "PYTHONUNBUFFERED": "1",
    }  # several nodes at the loopback address
    address = f"127.0.0.1:{free_port()}"
    head = [*RAY, "--head", f"--port={address[10:]}", "--include-dashboard=false", f"--temp-dir={short / 'a'}"]
    other = f"mount -t tmpfs none '{hidden}' && exec {' '.join([*RAY, f'--address={address}'])}"
    processes = []
    try:
        for words, place in ((head, tmp_path), (["unshare", "--mount", "sh", "-c", other], tmp_path / "elsewhere")):
            process = subprocess.Popen(
                words, env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            processes.append(process)
            said = [*iter_until(process.stdout, "Ray runtime started")]
            assert process.poll() is None, said
        done = subprocess.run(
            [sys.executable, "-c", JOIN, str(shared), str(hidden)],
            env={**environment, "RAY_ADDRESS": address, "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
        )
    finally:
        for process in processes:
            if process.poll() is None:
                for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                    child.kill()
            process.wait(30)
        shutil.rmtree(short, ignore_errors=True)
    told = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert told[:4] == ["package True True"] * 2 + ["devices [0.0, 0.0]", "shared by all []"]
    assert (
        told[4].startswith("refused: ") and told[4].count("does not see") == 1 and f"does not see {hidden}: " in told[4]
    )
