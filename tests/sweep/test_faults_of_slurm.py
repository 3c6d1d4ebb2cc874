"""deploy/slurm.sh under a real Slurm: two machines of one allocation, a signal, and a job that is wanted more."""

import sys
import time

import pytest

from tests.repository import REPOSITORY
from tests.running import assert_as_undisturbed
from tests.slurm import slurm
from tests.sweep.faults import Disturbed

pytestmark = pytest.mark.slow
SECONDS = 240


class Job:
    """A sweep that deploy/slurm.sh runs on both machines."""

    def __init__(self, cluster, disturbed):
        self._cluster, self._disturbed, folder = cluster, disturbed, disturbed.folder
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "home").mkdir()
        words = [
            f"--chdir={folder}",
            f"--output={folder}/told",
            "--gpus-per-node=0",
            REPOSITORY / "deploy" / "slurm.sh",
        ]
        clean = {name: text for name, text in cluster.environment.items() if not name.startswith(("RAY_", "TMPDIR"))}
        environment = {**clean, "HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)}
        self.number = cluster.submit(*words, disturbed.file, env=environment)

    @property
    def told(self):
        return (self._disturbed.folder / "told").read_text(errors="replace")

    def poll(self):
        """As of a process: None while it runs or waits."""
        state = self._cluster.facts(self.number)["JobState"]
        return None if state in ("RUNNING", "PENDING", "COMPLETING", "CONFIGURING", "PREEMPTED", "REQUEUED") else state

    def communicate(self):
        return self.told, ""

    def is_queued_again(self):
        """Until it is; its turn comes at once."""
        self._until(
            lambda: (facts := self._cluster.facts(self.number))["JobState"] == "PENDING" and facts["Restarts"] == "1"
        )
        self._cluster.tool("scontrol", "update", f"JobId={self.number}", "StartTime=now")

    def ends(self):
        self._until(lambda: self._cluster.facts(self.number)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED"))
        assert self._cluster.facts(self.number)["JobState"] == "COMPLETED", self.told

    def _until(self, condition):
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, (self._cluster.facts(self.number), self.told)
            time.sleep(0.2)


def test_a_signal_before_its_time_is_over_has_trials_saved_and_the_job_goes_on_when_it_is_begun_again(
    long_settings, reference, tmp_path
):
    disturbed = Disturbed(tmp_path, long_settings)
    with slurm() as cluster:
        job = Job(cluster, disturbed)
        disturbed.trial_after(job, 3)
        cluster.tool("scancel", "--batch", "--signal=TERM", job.number)  # as Slurm does by --signal=B:TERM@120
        job.is_queued_again()
        assert "save at their next step" in job.told and "to go on: toconv sweep" in job.told
        job.ends()
    assert_as_undisturbed(tmp_path, reference, disturbed.uri)


def test_a_job_that_is_wanted_more_has_trials_saved_where_slurm_sends_the_users_signal_then(
    long_settings, reference, tmp_path
):
    """By preempt_send_user_signal. The other job has the machines as soon as this one has gone."""
    disturbed = Disturbed(tmp_path, long_settings)
    with slurm("SlurmctldParameters=preempt_send_user_signal") as cluster:
        job = Job(cluster, disturbed)
        disturbed.trial_after(job, 3)
        urgent = cluster.submit("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
        job.is_queued_again()
        assert "save at their next step" in job.told and "to go on: toconv sweep" in job.told
        job.ends()
        assert cluster.facts(urgent)["JobState"] == "COMPLETED"
    assert_as_undisturbed(tmp_path, reference, disturbed.uri)
