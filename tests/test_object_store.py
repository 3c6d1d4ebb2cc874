"""A folder of an object store: what is put is there whole, and what cannot be is told."""

import pickle
import time

import pytest

from toconv import config
from toconv.errors import MachineryError, RequestError
from toconv.object_store import ObjectStore


@pytest.fixture(params=["file", "s3", "s3, by its address"])
def store(request, tmp_path):
    if request.param == "file":
        return ObjectStore((tmp_path / "objects").as_uri())
    s3, server = request.getfixturevalue("s3"), request.getfixturevalue("s3_server").partition("://")[2]
    if request.param == "s3":
        return ObjectStore(s3.url)
    request.getfixturevalue("monkeypatch").delenv("AWS_ENDPOINT_URL")
    return ObjectStore(f"{s3.url}?scheme=http&endpoint_override={server}&region=us-east-1")


def test_what_is_put_is_got_and_listed(store):
    store.check()
    assert store.get("tokens/a/b") is None and store.listed("tokens/a") == {} and store.stamp("tokens/a/b") is None
    for content in (b"first", b"", bytes(range(256)) * 100):
        store.put("tokens/a/b", content)
        assert store.get("tokens/a/b") == content
    store.put("tokens/a/c/d", b"deeper")
    assert store.listed("tokens/a") == {"b": store.stamp("tokens/a/b")}
    assert {*store.listed("tokens/a", deep=True)} == {"b", "c/d"} and {*store.listed("tokens", deep=True)} == {
        "a/b",
        "a/c/d",
    }
    store.remove("tokens/a/b")
    store.remove("tokens/a/b")
    assert {*store.listed("tokens/a", deep=True)} == {"c/d"} and store.get("tokens/a/b") is None


def test_what_is_put_again_has_another_time(store, monkeypatch):
    store.put("key", b"first")
    before, end = store.stamp("key"), time.monotonic() + 5
    while store.stamp("key") == before and time.monotonic() < end:  # a clock of seconds
        store.put("key", b"first")
    assert before < store.stamp("key") < time.time_ns() + 10**9


def test_a_store_travels_to_another_process_by_its_address(store):
    store.put("key", b"content")
    assert pickle.loads(pickle.dumps(store)).get("key") == b"content"
    assert b"secret" not in pickle.dumps(store).lower()


def test_a_bucket_that_is_not_there_is_told_at_once(s3):
    with pytest.raises(MachineryError, match="store.url=s3://no-such-bucket/x: .*NO_SUCH_BUCKET"):
        ObjectStore("s3://no-such-bucket/x").check()


@pytest.mark.slow
def test_a_network_that_is_gone_is_told(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(MachineryError, match="store.url=s3://.*NETWORK_CONNECTION"):
        ObjectStore(s3.url).check()


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MachineryError, match="store.url=file://.*/file/x: "):
        ObjectStore((tmp_path / "file" / "x").as_uri()).check()


def test_a_store_that_is_back_in_time_is_not_noticed_and_one_that_is_not_is_told(s3, monkeypatch):
    monkeypatch.setattr("toconv.object_store.WAITS", (0.01, 0.01))
    store, waits = ObjectStore(s3.url), []
    s3.remove_bucket()
    with pytest.raises(MachineryError, match="key: not put .*NO_SUCH_BUCKET.*; what is on this machine's disk stays"):
        store.put("key", b"x")

    def back(seconds):
        waits.append(seconds)
        s3.make_bucket()

    monkeypatch.setattr("toconv.object_store.time.sleep", back)
    store.put("key", b"x")
    assert waits == [0.01] and store.get("key") == b"x"


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("/folder", "must begin with s3://, gs://, file://"),
        ("http://host/bucket", "must begin with"),
        ("s3://user@bucket/x", "store.url: holds a name or a token"),
        ("s3://user:password@bucket/x", "store.url: holds"),
        ("s3://bucket/x?secret_key=abcdef", "store.url: "),
        ("s3://bucket/x?access_mode=1", "its parameters may be endpoint_override, region, scheme; it has access_mode"),
        ("s3:///x", "must read"),
        ("file://host/folder", "must read file:///FOLDER"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secret(url, rule):
    with pytest.raises(RequestError, match=rule) as caught:
        config.compose({"store.url": url})
    assert "password" not in str(caught.value).replace("a password", "") and "abcdef" not in str(caught.value)


def test_an_address_that_is_one_is_taken():
    for url in (
        "s3://bucket/x/y",
        "gs://bucket",
        "file:///folder/x",
        "s3://b/x?endpoint_override=host:9000&scheme=http",
    ):
        assert config.compose({"store.url": url}).store.url == url
