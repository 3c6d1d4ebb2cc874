"""The word that a sweep sends: to a real server on loopback, and by real commands."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import ValidationError

from tests.running import write_sweep
from toconv.errors import MachineryError, RequestError
from toconv.paths import SweepPaths
from toconv.sweep import notify
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.sweep.notify import Event, Notifier, Notify, check_notify, message
from toconv.sweep.running import Announcement

VARIABLE, SECRET = "TOCONV_NOTIFY_URL", "s3cr3t"


@contextmanager
def server(*codes):
    """Answers with these codes, one after the other; yields its address and what was posted."""
    posted, left = [], list(codes)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(left.pop(0))
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}/hook/{SECRET}", posted
        found.shutdown()


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setattr(notify, "PAUSES", (0.01, 0.01))
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    Announcement(paths, 3).tell(planned=4, left=0)
    return paths


def sent(paths, event=Event.ENDED, why="", **asked):
    with Notifier(Notify(**asked), paths) as notifier:
        notifier.send(event, why)


@pytest.mark.parametrize("codes", [(200,), (500, 204), (429, 503, 200)])
def test_it_is_posted_as_json_and_tried_again(paths, monkeypatch, capsys, codes):
    with server(*codes) as (address, posted):
        monkeypatch.setenv(VARIABLE, address)
        sent(paths, url_env=VARIABLE)
    assert len(posted) == len(codes) and posted[0] == posted[-1]
    assert posted[0]["text"] == posted[0]["content"] and posted[0]["event"] == "ended" and posted[0]["sweep"] == "tiny"
    assert posted[0]["text"].splitlines()[0].startswith("tiny: done, ") and "not sent" not in capsys.readouterr().out


def test_what_nobody_takes_costs_the_sweep_nothing_and_the_address_is_not_told(paths, monkeypatch, capsys):
    with server(500, 500, 404) as (address, posted):
        monkeypatch.setenv(VARIABLE, address)
        sent(paths, url_env=VARIABLE)
        assert len(posted) == 3
    sent(paths, url_env=VARIABLE)  # the server is gone
    monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:port/{SECRET}")
    sent(paths, url_env=VARIABLE)
    printed = capsys.readouterr().out
    assert printed.count("notify: the word of ended was not sent") == 3 and SECRET not in printed
    assert "(HTTP 404)" in printed and "(ConnectionRefusedError)" in printed


def test_a_command_gets_what_there_is_to_say_as_words(paths, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sent(paths, Event.BUDGET, "budget.hours=2", command="cp -- 'my {event}' {name}")
    assert "exit code 1" in capsys.readouterr().out and "my budget" in (paths.root / "notify.log").read_text()
    (tmp_path / "my budget").write_text("")
    sent(paths, Event.BUDGET, "budget.hours=2", command="cp -- 'my {event}' {name}")
    assert (tmp_path / "tiny").exists() and "not sent" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "told", "seconds"),
    [
        ("sh -c 'echo no; exit 3'", "exit code 3", 60.0),
        ("sh -c 'sleep 60'", "had not ended after", 0.5),
        ("nope", "exit code 127", 60.0),
    ],
)
def test_a_command_that_fails_or_hangs_is_told_and_ended(paths, monkeypatch, capsys, command, told, seconds):
    monkeypatch.setattr(notify, "TIMEOUT_SECONDS", seconds)
    monkeypatch.setattr(notify, "CLOSE_SECONDS", 60.0)
    sent(paths, command=command)
    assert told in capsys.readouterr().out


def test_machinery_that_gives_way_is_told_and_a_wrong_request_and_ctrl_c_are_not(paths, monkeypatch):
    with server(200) as (address, posted):
        monkeypatch.setenv(VARIABLE, address)
        for error in (MachineryError("the disk is full\nat /x"), RequestError("no such key"), KeyboardInterrupt()):
            with pytest.raises(type(error)), Notifier(Notify(url_env=VARIABLE), paths):
                raise error
    assert [one["event"] for one in posted] == ["machinery"]
    assert posted[0]["text"].splitlines()[3] == "the disk is full"


def test_it_has_five_lines_whatever_there_is_to_say(tiny, paths, tmp_path):
    changes = {"grid": {"model.compressor.output_grid_size": [2]}}
    driver = Driver(load_sweep(write_sweep(tmp_path, tiny, **changes), []), paths, tmp_path, "f00d")
    told = []
    driver.on_first_failure = lambda name, why: told.append(f"{name}: {why}")
    first, second = driver.next_proposal(), driver.next_proposal()
    driver.failed(first, "losses must be finite")
    driver.failed(second, "its worker died")
    assert told == ["k=2/0: losses must be finite"], "of the first alone"
    for event in Event:
        lines = message(paths, event).splitlines()
        assert len(lines) == 5 and lines[0].startswith("tiny: ") and lines[2] == "no trial is complete"
        assert lines[1] == "2/4 trials ended (2 failed)" and "k=2/0 (losses must be finite)" in lines[3]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "give a command or a url_env"),
        ({"command": "a", "url_env": "B"}, "not both"),
        ({"url_env": "http://x"}, "pattern"),
        ({"command": "send {words}"}, "{words}: stands for nothing; {event}, {name}, {text} do"),
        ({"command": "send 'x"}, "cannot be split"),
        ({"command": "{text}"}, "must begin with a program"),
    ],
)
def test_a_section_that_could_send_nothing_is_refused(asked, told):
    with pytest.raises(ValidationError, match=told):
        Notify.model_validate(asked)


@pytest.mark.parametrize(
    ("asked", "value", "told"),
    [
        ({"url_env": VARIABLE}, None, f"notify.url_env={VARIABLE}: is not set in the environment"),
        ({"url_env": VARIABLE}, "chat.example", "holds no http:// or https:// address"),
        ({"command": "no-such-program {text}"}, None, "no program no-such-program is found"),
    ],
)
def test_what_could_never_be_sent_is_refused_before_work(monkeypatch, asked, value, told):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(RequestError, match=told):
        check_notify(Notify(**asked))
