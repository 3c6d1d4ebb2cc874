"""Requests as files, written by several processes at once and read by one."""

import json
from concurrent.futures import ProcessPoolExecutor

import pytest

from toconv.paths import SweepPaths
from toconv.sweep import inbox as inbox_file
from toconv.sweep.inbox import Act, Inbox, Note, Verdict, request


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path)


def post(root, number):
    asked = request(Act.SLOTS, count=number)
    Inbox(SweepPaths(root)).post(asked)
    return asked.id


def test_what_two_people_ask_at_once_is_there_once_each_in_one_order(paths):
    with ProcessPoolExecutor(2) as people:
        ids = list(people.map(post, [paths.root] * 20, range(1, 21)))
    found = Inbox(paths).open()
    assert [asked.id for asked in found] == sorted(ids) and len(set(ids)) == 20
    assert {asked.count for asked in found} == set(range(1, 21)) and all(asked.user for asked in found)
    assert [asked.at for asked in found] == sorted(asked.at for asked in found)


def test_what_is_taken_stays_open_for_the_next_driver_and_what_is_done_or_refused_does_not(paths):
    inbox = Inbox(paths)
    ids = [post(paths.root, number) for number in (1, 2, 3, 4)]
    for id_, verdict in zip(ids, Verdict, strict=False):
        inbox.reply(id_, verdict, "so")
    assert [asked.id for asked in inbox.open()] == [asked.id for asked in Inbox(paths).open()] == [ids[0], ids[3]]
    assert inbox.answer(ids[1]).verdict is Verdict.DONE and inbox.answer(ids[3]) is None
    assert [line.rpartition(": ")[2] for line in inbox.history()] == [
        "taken (so)",
        "done (so)",
        "refused (so)",
        "not answered yet",
    ]


def test_a_file_that_is_no_request_is_refused_once_and_one_on_its_way_is_left_alone(paths):
    post(paths.root, 1)
    for name, text in (("0-a.json", "{"), ("0-b.json", '{"act": "explode"}'), (".0-c.json.x.tmp", "{")):
        (paths.steering / name).write_text(text)
    inbox = Inbox(paths)
    assert len(inbox.open()) == len(inbox.open()) == 1
    assert {name: inbox.answer(name).verdict for name in ("0-a", "0-b")} == dict.fromkeys(
        ("0-a", "0-b"), Verdict.REFUSED
    )
    assert inbox.answer("0-c") is None


def test_what_arrives_or_is_taken_back_while_the_others_are_read_is_not_refused(paths, monkeypatch):
    first, gone = post(paths.root, 1), post(paths.root, 2)
    inbox, read, arrived = Inbox(paths), inbox_file.read_json, []

    def meanwhile(*path_and_kind):
        if not arrived:
            arrived.append(post(paths.root, 3))
            (paths.steering / f"{gone}.json").unlink()
        return read(*path_and_kind)

    monkeypatch.setattr(inbox_file, "read_json", meanwhile)
    assert [asked.id for asked in inbox.open()] == [first]
    assert [asked.id for asked in inbox.open()] == [first, *arrived]
    assert not [path for path in paths.steering.iterdir() if "answer" in path.name]


def test_a_note_says_who_and_when_and_survives_json():
    note = Note(id="1", act=Act.STOP, user="alice", at=0.0)
    assert note.says == "stopped by alice at 1970-01-01 00:00:00 UTC"
    assert Note.model_validate(json.loads(json.dumps(note.model_dump(mode="json")))) == note
