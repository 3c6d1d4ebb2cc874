"""A Ray cluster of two nodes by Ray's own command; the second has disks of its own in place of some folders."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own is mounted for one node")

RAY = [
    str(Path(sys.executable).with_name("ray")),
    "start",
    "--num-cpus=1",
    "--block",
    "--disable-usage-stats",
    "--node-ip-address=127.0.0.1",
]


class TwoMachines:
    def __init__(self, environment, second):
        self.environment = environment  # of a driver that joins
        self._second = second

    def lose_the_second(self):
        end(self._second)


@contextmanager
def two_machines(folder, hidden, **more):
    """Nodes that begin in folders of their own; the second does not see what is in `hidden`."""
    short = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
    (folder / "elsewhere").mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHONPATH"))}
    environment = {**clean, **more, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64, "PYTHONUNBUFFERED": "1"}
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"  # several nodes at the loopback address
    address = f"127.0.0.1:{free_port()}"
    head = [*RAY, "--head", f"--port={address[10:]}", "--include-dashboard=false", f"--temp-dir={short / 'a'}"]
    mounts = " && ".join(f"mount -t tmpfs none '{path}'" for path in hidden)
    other = f"{mounts} && exec {' '.join([*RAY, f'--address={address}'])}"
    processes = []
    try:
        for words, place in ((head, folder), (["unshare", "--mount", "sh", "-c", other], folder / "elsewhere")):
            process = subprocess.Popen(
                words, env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            processes.append(process)
            said = [*iter_until(process.stdout, "Ray runtime started")]
            assert process.poll() is None, said
        yield TwoMachines({**environment, "RAY_ADDRESS": address}, processes[1])
    finally:
        for process in processes:
            end(process)
        shutil.rmtree(short, ignore_errors=True)


def end(process):
    """With all below it."""
    if process.poll() is None:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
    process.wait(30)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def iter_until(lines, text):
    for line in lines:
        yield line
        if text in line:
            return
