"""The ledger and MLflow's records in one PostgreSQL server: the driver is killed, the server is restarted, gone and
standing still, one after the other on one sweep, which ends as the undisturbed one with both in files does. Then it is
looked at and steered."""

import json
import os
import signal
import time

import optuna
import pytest

from tests import postgresql
from tests.running import mlflow_runs, run, start_alone, started_anew, toconv_command
from tests.sweep.faults import Disturbed, ended, kill_often, lose_raylet

pytestmark = pytest.mark.slow
AWAY = 30  # seconds


@pytest.fixture(scope="module")
def server():
    with postgresql.server() as found:
        os.environ["PGPASSWORD"] = postgresql.PASSWORD
        yield found
        del os.environ["PGPASSWORD"]


@pytest.fixture(scope="module")
def on_postgresql(long_settings, tmp_path_factory, server):
    folder = tmp_path_factory.mktemp("on_postgresql")
    return Disturbed(folder, long_settings, uri=server.create("records"), storage={"study": server.create("studies")})


def test_the_driver_is_killed_and_another_one_is_kept_out(on_postgresql, server):
    assert kill_often(on_postgresql, 2) >= 1
    process = on_postgresql.start()
    on_postgresql.trial_after(process, 1)
    elsewhere = on_postgresql.folder / "elsewhere"
    (elsewhere / "outputs" / "tiny").mkdir(parents=True)
    copy = (on_postgresql.folder / "outputs" / "tiny" / "sweep.yaml").read_bytes()
    (elsewhere / "outputs" / "tiny" / "sweep.yaml").write_bytes(copy)
    process.send_signal(signal.SIGSTOP)  # its lock is no less its own
    second = run(elsewhere, on_postgresql.file)
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2 and "another process runs this sweep" in second.stderr
    on_postgresql.trial_after(process, 2)
    on_postgresql.stop(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_it_says_how_to_go_on(on_postgresql, number):
    process = on_postgresql.start(start_alone)
    on_postgresql.trial_after(process, 2)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    code, _, stderr = ended(process)
    assert code == 130 and "to go on: python" in stderr.splitlines()[-1], stderr


def test_a_lost_raylet_ends_with_exit_code_4_within_a_minute(on_postgresql):
    lose_raylet(on_postgresql)


def test_the_database_is_restarted_then_stands_still_and_is_then_gone_for_30_seconds(on_postgresql, server, reference):
    process = on_postgresql.start()
    on_postgresql.trial_after(process, 0)
    server.restart()
    on_postgresql.trial_after(process, 3)
    server.stand_still()
    time.sleep(8)
    server.go_on()
    server.stop()
    time.sleep(AWAY)
    server.start()
    code, stdout, stderr = ended(process)
    assert code == 0, stdout + stderr
    printed = " ".join(stdout.split())
    assert "does not answer" in printed and "the ledger answers again, after" in printed
    on_postgresql.ends_as(reference)
    assert not (on_postgresql.folder / "outputs" / "tiny" / "study.db").exists()


def test_while_it_is_gone_a_start_and_a_look_say_so_with_exit_code_4(on_postgresql, server):
    server.stop()
    try:
        begun = run(on_postgresql.folder, on_postgresql.file)
        looked = toconv_command(on_postgresql.folder, "status", "tiny")
    finally:
        server.start()
    assert begun.returncode == 4 and "cannot be opened" in begun.stderr
    assert "to go on: python" in begun.stderr.splitlines()[-1]
    assert looked.returncode == 4 and "cannot be read" in looked.stderr


def test_mlflow_is_told_which_studies_of_which_database_they_are(on_postgresql, server):
    address = server.address("studies")
    tags = [run.data.tags for run in mlflow_runs(on_postgresql.uri)[1] if run.data.tags.get("kind") == "trial"]
    assert {t["optuna.storage"] for t in tags} == {address}
    known = optuna.get_all_study_names(address)
    assert len(tags) == 4 and {t["optuna.study"] for t in tags} == {name for name in known if "k=" in name}


def test_commands_read_and_steer_it(on_postgresql, server):
    folder = on_postgresql.folder
    status = toconv_command(folder, "status", "tiny", "--json")
    assert json.loads(status.stdout)["counts"] == {"complete": 4}, status.stderr
    report = folder / "outputs" / "tiny" / "report.html"
    report.unlink()
    written = toconv_command(folder, "report", "tiny")
    assert written.returncode == 0 and server.address("studies") in report.read_text(), written.stderr
    epochs = ("--epochs", "42", "--trials", "k=2/0", "--anew")
    for words in (("extend", "tiny", *epochs), ("add", "tiny", "model.compressor.output_grid_size=2")):
        asked = toconv_command(folder, *words)
        assert asked.returncode == 0 and "its next start does it" in asked.stdout, asked.stdout + asked.stderr
    done = run(folder, on_postgresql.file)
    status = toconv_command(folder, "status", "tiny", "--json")
    assert done.returncode == 0 and json.loads(status.stdout)["counts"] == {"complete": 6}, done.stdout + done.stderr
    first, second = ((folder / "outputs" / "tiny" / name).read_text() for name in ("results.csv", "sweep.yaml"))
    assert "extended" in first and server.address("studies") in second
    assert postgresql.PASSWORD not in done.stdout + written.stdout + status.stdout


def test_a_database_that_was_made_anew_is_told_by_a_look_as_by_a_report(on_postgresql, server):
    folder, studies = on_postgresql.folder, server.address("studies")
    server.rename("studies", "away")
    try:
        server.create("studies")
        looks = [toconv_command(folder, command, "tiny") for command in ("status", "report")]
        listed = toconv_command(folder, "ls")
    finally:
        server.drop("studies")
        server.rename("away", "studies")
    for looked in looks:
        assert looked.returncode == 4 and f"error: {studies} (tiny-" in looked.stderr, looked.stdout + looked.stderr
        assert "must be the ledger of the sweep tiny; put a copy of it back" in looked.stderr
    assert listed.returncode == 0 and "must be the ledger of the sweep tiny" in listed.stdout
    assert toconv_command(folder, "status", "tiny").returncode == 0


@pytest.mark.chaos
def test_a_database_that_is_gone_for_good_ends_the_sweep_and_the_same_command_goes_on(
    long_settings, tmp_path, server, reference
):
    sweep = Disturbed(tmp_path, long_settings, storage={"study": server.create("gone")})
    process = sweep.start(started_anew)
    sweep.trial_after(process, 3)
    server.stop()
    try:
        code, _, stderr = ended(process, 240)
    finally:
        server.start()
    assert code == 4 and "also after 2 min" in stderr and "to go on: python" in stderr.splitlines()[-1], stderr
    sweep.ends_as(reference)
