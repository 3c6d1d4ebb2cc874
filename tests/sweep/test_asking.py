"""Who asks a sweep for something waits for its driver's answer, or is told that nothing runs it."""

import threading
import time

import pytest

from tests.running import write_sweep
from toconv.commands import add, finish, retry, skip, slots, stop
from toconv.errors import DamagedFile, ExitCode, RequestError
from toconv.paths import SweepPaths
from toconv.sweep import asking
from toconv.sweep.asking import ask
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.sweep.inbox import Act, Inbox, Verdict
from toconv.sweep.request import record_request
from toconv.sweep.running import Announcement


@pytest.fixture
def paths(tiny, tmp_path, monkeypatch):
    """A sweep with one trial that runs."""
    monkeypatch.chdir(tmp_path)
    sweep, paths = load_sweep(write_sweep(tmp_path, tiny), []), SweepPaths.named("tiny")
    record_request(sweep, paths, "f00d", {"command": "toconv sweep tiny.yaml"})
    Driver(sweep, paths, tmp_path, "f00d").next_proposal()
    return paths


def answering(paths, verdict, says):
    """Answers the next request, in a thread: a driver that lives in this process."""
    Announcement(paths, 3).tell(left=4)
    inbox = Inbox(paths)

    def work():
        while not (found := inbox.open()):
            time.sleep(0.01)
        inbox.reply(found[0].id, verdict, says)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_an_answer_is_printed_and_a_refusal_is_a_wrong_request(paths, capsys):
    answering(paths, Verdict.TAKEN, "k=2/0 ends with epoch 3")
    assert ask("tiny", Act.STOP, trial="k=2/0") is ExitCode.DONE
    assert "stop k=2/0: taken; k=2/0 ends with epoch 3" in capsys.readouterr().out
    paths.steering.rename(paths.root / "answered")
    answering(paths, Verdict.REFUSED, "slots=9: the cluster has room for 2 at a time")
    with pytest.raises(RequestError, match="slots=9: the cluster has room for 2"):
        ask("tiny", Act.SLOTS, count=9)


def test_while_nothing_runs_it_is_kept_for_the_next_start_and_says_how_to_take_it_back(paths, capsys):
    assert ask("tiny", Act.FINISH) is ExitCode.DONE
    printed = capsys.readouterr().out
    (file,) = paths.steering.iterdir()
    assert f"its next start does it (toconv sweep tiny.yaml): it stands in {file}; remove" in printed


def test_a_driver_that_is_busy_with_something_else_is_waited_for_only_so_long(paths, capsys, monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.2)
    Announcement(paths, 3).tell(left=4)
    assert ask("tiny", Act.PAUSE) is ExitCode.DONE
    assert "no answer within 0 s; it is done once trials run" in capsys.readouterr().out


def test_the_answer_of_a_driver_that_ends_right_after_it_is_told(paths, capsys, monkeypatch):
    def ends(_paths):
        for asked in Inbox(paths).open():
            Inbox(paths).reply(asked.id, Verdict.TAKEN, "the sweep ends")
        return False

    monkeypatch.setattr(asking, "at_work", ends)
    assert ask("tiny", Act.FINISH) is ExitCode.DONE
    assert "finish: taken; the sweep ends" in capsys.readouterr().out


def test_of_a_sweep_whose_ledger_is_gone_nothing_is_asked_unless_its_driver_has_yet_to_make_it(paths, capsys):
    paths.study.unlink()
    asked = ((Act.RETRY, {}), (Act.EXTEND, {"trials": ("best:1",), "count": 9}), (Act.STOP, {"trial": "k=2/0"}))
    for act, about in (*asked, (Act.FINISH, {})):
        with pytest.raises(DamagedFile, match=r"study\.db: must be the ledger of the sweep tiny; put a copy of it"):
            ask("tiny", act, **about)
    assert not paths.steering.exists()
    answering(paths, Verdict.TAKEN, "the sweep ends")
    assert ask("tiny", Act.FINISH) is ExitCode.DONE
    assert "finish: taken; the sweep ends" in capsys.readouterr().out


def test_what_the_folder_refuses_is_not_asked(paths):
    for act, about in ((Act.STOP, {"trial": "k=9/9"}), (Act.RETRY, {}), (Act.ADD, {"params": {"training.epochs": 2}})):
        with pytest.raises(RequestError):
            ask("tiny", act, **about)
    with pytest.raises(RequestError, match="holds no sweep; there are tiny"):
        ask("tinny", Act.PAUSE)
    assert not paths.steering.exists()


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        (add, ["tiny"], "give the name of one sweep, and values"),
        (add, ["loss.lambda_gp=3"], "give the name of one sweep, and values"),
        (add, ["tiny", "loss.lambda_gp"], "must read key=value"),
        (stop, ["tiny"], "say which --trial"),
        (skip, ["tiny", "--trial", "k=2/0", "--hard"], "--hard: no such option"),
        (retry, ["tiny"], "say --failed, or which --trial"),
        (retry, ["tiny", "--failed", "--trial", "k=2/0"], "say --failed, or which --trial"),
        (slots, ["tiny"], "slots=tiny: must be a whole number from 1 on"),
        (slots, ["tiny", "0"], "slots=0: must be a whole number"),
        (slots, ["tiny", "-1"], "slots=-1: must be a whole number"),
        (finish, [], "give the name of one sweep"),
    ],
)
def test_words_that_ask_for_nothing_are_refused_with_the_usage(paths, command, words, told):
    with pytest.raises(RequestError) as caught:
        command.main(words)
    assert told in str(caught.value) and not paths.steering.exists()
