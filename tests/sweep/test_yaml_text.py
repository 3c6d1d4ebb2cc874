"""A sweep file's YAML: what stands there or a refusal that shows it."""

import os
import time

import pytest
import yaml

from toconv.errors import RequestError
from toconv.sweep.yaml_text import read_document


@pytest.fixture
def read(tmp_path):
    def reading(text):
        path = tmp_path / "a.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_document(path)

    return reading


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n",
        "a: &a {x: 1}\nb: &b {z: 2}\nc:\n  <<: [*a, *b]\n  x: 9\n",
        "a: {deep: &x {<<: &z {k: 1}, k: 2}}\ny: {<<: *x, q: 1}\n",  # read before what it is merged from
        "base: &base {settings: {e: 1}}\nsweep:\n  <<: *base\n  list: [*base, *base]\n",
    ],
)
def test_merge_keys_and_aliases_are_read_as_yaml_means_them(read, text):
    assert read(text).content == yaml.safe_load(text)


def test_keys_for_anchors_hold_parts_for_other_places_alone(read):
    document = read("x-slow: &slow {a: 0x1}\nx-list: [&one 1]\nsettings: {<<: *slow, x-b: *one}\n")
    assert document.content == {"settings": {"a": 1, "x-b": 1}}


def test_numbers_are_numbers_and_dates_are_text(read):
    content = read("a: 1e-4\nb: -2E+3\nc: 2024-01-02\nd: 2024-13-45\ne: =\nf: 0.5").content
    assert content == {"a": 1e-4, "b": -2e3, "c": "2024-01-02", "d": "2024-13-45", "e": "=", "f": 0.5}


def test_how_a_value_was_written_is_known_where_yaml_reads_another(read):
    typed = read("name: 2024_01_02\nb: yes\nc: 7\ngrid: {x.y: [0x10, no, ~]}\nd: 'yes'").typed
    assert typed == {
        ("name", "20240102"): "2024_01_02",
        ("b", "true"): "yes",
        **dict.fromkeys([("grid.x.y.0", "16"), ("x.y", "16")], "0x10"),
        **dict.fromkeys([("grid.x.y.1", "false"), ("x.y", "false")], "no"),
        **dict.fromkeys([("grid.x.y.2", "null"), ("x.y", "null")], "~"),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [*a]", "line 1: an alias within what it stands for"),
        ("a: 1\nb: &b {c: {d: *b}}", "line 2: an alias within"),
        ("&a {<<: *a}", "an alias within"),
        ("a: " + "[" * 400 + "]" * 400, "more than 20 levels"),
        ("a: " + "{b: " * 10_000, "more than 20 levels"),
        ("a: &c0 [1]\n" + "".join(f"b{i}: &c{i} [*c{i - 1}]\n" for i in range(1, 30)), "more than 20 levels"),
        ("settings:\n" + "".join(f"  b{i}: &b{i} [{f'*b{i - 1},' * 9 if i else '1'}]\n" for i in range(9)), "values"),
        ("2024: 1", 'the key 2024 must be text, which it is in quotes: "2024"'),
        ("a: 1\nyes: 1", "line 2: the key yes must be text"),
        ("? [1, 2]\n: 3", "a key must be text"),
        ("? {a: b}\n: 3", "a key must be text"),
        ("~: 3", "the key ~ must be text"),
        ("a: 1\n'a': 2", "line 2: key 'a' is given twice"),
        ("a: " + "9" * 5000, r"5000 characters\): is no int that can be read"),
        ("a: 0x" + "f" * 5000, "whole numbers are below"),
        ("a: !!set {b}", "not known here"),
        ("a: !!python/object/apply:os.system [ls]", "not known here"),
        ("a: !!int x", "line 1: x: is no int"),
        ("a: !!bool x", "line 1: x: is no bool"),
        ("a: <<", "not readable as YAML"),
        ("<<: 3", "not readable as YAML"),
        (b"\xff\xfe", "not readable as YAML"),
        (b"a: \x00", "not readable as YAML"),
        ("a: *b", "undefined alias"),
        ("", "a sweep file is a mapping"),
        ("- 1", "a sweep file is a mapping"),
        ("a: " + "x" * 200_001, "200000 bytes"),
    ],
)
def test_what_is_no_sweep_file_is_refused_at_once(read, text, told):
    busy = time.process_time()
    with pytest.raises(RequestError, match=told) as refused:
        read(text)
    assert time.process_time() - busy < 5 and len(str(refused.value)) < 1000


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(RequestError):
            read_document(path)


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "sweep.yaml"
    {"pipe": os.mkfifo, "folder": os.mkdir, "/dev/zero": lambda path: path.symlink_to("/dev/zero")}[kind](path)
    start = time.monotonic()
    with pytest.raises(RequestError, match="a sweep file must be a file, which this is not"):
        read_document(path)
    assert time.monotonic() - start < 30  # a pipe that nobody writes has no end
