"""A Slurm of the tests' own: Debian's, its controller and two machines of two CPUs, all of them this one."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
START_SECONDS, GRACE_SECONDS = 30, 60
MACHINES = ("first", "second")
CONFIGURATION = """ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/controller
SlurmctldPidFile={folder}/controller.pid
SlurmctldLogFile={folder}/controller.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
{more}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{machines}
PartitionName=usual Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime={grace}
PartitionName=urgent Nodes=ALL State=UP PriorityTier=2
"""


def needed():
    """Skips where it cannot be started."""
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started by root")
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        pytest.skip(f"no {', '.join(missing)} on this machine (Debian: slurmctld slurmd slurm-client munge)")


class Slurm:
    def __init__(self, folder, more):
        self.folder, self._processes = folder, []
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        for name in ("munge", "controller", *MACHINES):
            (folder / name).mkdir(mode=0o700)
        (folder / "munge" / "key").write_bytes(os.urandom(128))
        (folder / "munge" / "key").chmod(0o600)
        host, machine = (
            socket.gethostname(),
            "NodeName={} NodeHostname={} NodeAddr=127.0.0.1 Port={} CPUs=2 RealMemory=1",
        )
        machines = "\n".join(machine.format(name, host, free_port()) for name in MACHINES)
        given = {"host": host, "port": free_port(), "folder": folder, "machines": machines, "grace": GRACE_SECONDS}
        (folder / "slurm.conf").write_text(CONFIGURATION.format(more=more, **given))

    def start(self):
        place = self.folder / "munge"
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        self._begin("munged", "--foreground", "--force", *(f"--{name}={place / file}" for name, file in files.items()))
        self._until((place / "socket").exists)
        self._begin("slurmctld", "-D")
        for name in MACHINES:
            self._begin("slurmd", "-D", "-N", name)
        asked = ["sinfo", "--noheader", "--format=%t %D", "--partition=usual"]
        self._until(lambda: self.tool(*asked, check=False).strip() == "idle 2")

    def _until(self, condition):
        end = time.monotonic() + START_SECONDS
        while not condition():
            assert time.monotonic() < end, (self.folder / "told").read_text()
            time.sleep(0.1)

    def _begin(self, *command):
        with (self.folder / "told").open("ab") as told:
            given = {"env": self.environment, "stdout": told, "stderr": told, "start_new_session": True}
            self._processes.append(subprocess.Popen(command, **given))

    def stop(self):
        """With all that its jobs run."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if self._is_ours(process):
                    process.kill()
        for process in self._processes:
            process.wait(START_SECONDS)

    def _is_ours(self, process):
        """By its environment, or by its log: `slurmstepd` writes its title over its environment."""
        if process.name() == "slurmstepd":
            return any(Path(file.path).is_relative_to(self.folder) for file in process.open_files())
        return process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]

    def tool(self, *words, check=True, **more):
        given = {"env": self.environment, "capture_output": True, "text": True, **more}
        done = subprocess.run([*map(str, words)], **given)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def submit(self, *words, **more):
        """Returns the number of the job."""
        return self.tool("sbatch", "--parsable", *words, **more).strip()

    def facts(self, job):
        """What Slurm knows of it."""
        told = self.tool("scontrol", "--oneliner", "show", "job", job)
        return dict(word.partition("=")[::2] for word in told.split() if "=" in word)


@contextmanager
def slurm(more=""):
    """`more` are lines of its configuration."""
    needed()
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # paths of sockets are short
    found = Slurm(folder, more)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)
