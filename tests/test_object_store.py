"""A folder of an object store: what is put is there whole, and what cannot be is told."""

import pickle
import socket
import subprocess
import sys
import time

import pytest

from tests.conftest import quick
from tests.machines import needs_mounts
from tests.object_stores import refusing
from tests.running import run, write_sweep
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
    store.put("tokens/b", b"beside it")
    store.remove_folder("tokens/a")
    store.remove_folder("tokens/a")
    assert store.listed("tokens", deep=True) == {"b": store.stamp("tokens/b")}


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


FILLS = """
import sys
from pathlib import Path
import toconv.object_store
from toconv.errors import MachineryError

toconv.object_store.WAITS = (0.01, 0.01)
folder = Path(sys.argv[1])
store = toconv.object_store.ObjectStore(folder.as_uri())
for size in (100_000, 100):
    try:
        store.put("trials/a/latest.pt", bytes(size))
    except MachineryError as error:
        print(error)
    print(sorted(path.name for path in folder.rglob("*") if path.is_file()))
"""


@needs_mounts
def test_on_a_disk_that_is_full_nothing_stays_of_what_was_tried(tmp_path):
    """Here a disk of 60 kB, which no other process sees."""
    mounted = f"mount -t tmpfs -o size=60k none '{tmp_path}' && exec \"$@\""
    python = [sys.executable, "-c", FILLS, str(tmp_path)]
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mounted, "sh", *python], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    refused, *found = done.stdout.splitlines()
    assert "trials/a/latest.pt: not put (" in refused and "No space left on device" in refused
    assert found == ["[]", "['latest.pt']"]


def test_what_cannot_be_moved_into_place_does_not_stay_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("toconv.object_store.WAITS", (0.01,))
    (tmp_path / "key" / "full").mkdir(parents=True)
    with pytest.raises(MachineryError, match="key: not put"):
        ObjectStore(tmp_path.as_uri()).put("key", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


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


READ = ("s3:Get*", "s3:List*")


@pytest.fixture
def at_once(monkeypatch):
    """Nothing waits."""
    monkeypatch.setattr("toconv.object_store.time.sleep", lambda seconds: pytest.fail("tries again"))


@pytest.mark.parametrize("kind", ["unknown", "wrong secret", "may only read", "may not list", "may not remove"])
def test_a_login_that_is_refused_is_told_at_once_with_where_one_is_looked_for(s3, monkeypatch, at_once, kind):
    allowed = {
        "may only read": READ,
        "may not list": ("s3:PutObject", "s3:GetObject", "s3:DeleteObject"),
        "may not remove": (*READ, "s3:PutObject"),
    }
    login = s3.login(*allowed.get(kind, ("s3:*",)))
    changed = {"unknown": "AWS_ACCESS_KEY_ID", "wrong secret": "AWS_SECRET_ACCESS_KEY"}.get(kind)
    login |= {changed: f"{login[changed][:-3]}XXX"} if changed else {}
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    with s3.logins_checked(), pytest.raises(RequestError) as caught:
        ObjectStore(s3.url).check()
    told = str(caught.value)
    assert f"store.url={s3.url}: its login is refused, or may not write, read, list and remove there (" in told
    assert "one is looked for in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment, ~/.aws" in told
    assert login["AWS_SECRET_ACCESS_KEY"] not in told


def test_a_login_that_may_do_what_is_needed_is_taken(s3, monkeypatch):
    for name, value in s3.login(*READ, "s3:PutObject", "s3:DeleteObject").items():
        monkeypatch.setenv(name, value)
    with s3.logins_checked():
        ObjectStore(s3.url).check()


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("ExpiredToken", 400), ("InvalidToken", 400)])
def test_a_login_that_is_over_ends_a_start_and_whatever_is_asked_later_after_one_try(
    s3, monkeypatch, at_once, code, status
):
    """`s3` sets the environment."""
    with refusing(code, status) as (address, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        store = ObjectStore(s3.url)
        with pytest.raises(RequestError, match="its login is refused"):
            store.check()
        assert asked == ["POST"]
        for call in (lambda: store.put("key", b"x"), lambda: store.get("key"), lambda: store.stamp("key")):
            with pytest.raises(MachineryError, match="key: not .*, since its login is refused.*disk stays") as caught:
                call()
            assert caught.value.same_command_helps and caught.value.__cause__ is None
        assert asked[1:] == ["POST", "HEAD", "HEAD"]


@pytest.mark.slow
def test_where_no_login_is_found_and_the_machine_s_role_does_not_answer_it_takes_seconds(s3, monkeypatch, tmp_path):
    """It takes about 10 s, 16 s where the region is to be found out too."""
    with refusing("AccessDenied", 403) as (address, _), socket.create_server(("127.0.0.1", 0)) as silent:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.delenv(name)
        role = f"http://127.0.0.1:{silent.getsockname()[1]}"
        given = {"HOME": tmp_path, "AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_SERVICE_ENDPOINT": role}
        for name, value in given.items():
            monkeypatch.setenv(name, str(value))
        begun = time.monotonic()
        with pytest.raises(RequestError, match="its login is refused.*the machine's role"):
            ObjectStore(s3.url).check()
        assert time.monotonic() - begun < 30


def test_google_s_refusal_of_a_login_is_told_at_once(at_once):
    with refusing("AccessDenied", 403) as (address, asked):
        url = f"gs://anonymous@bucket/x?endpoint_override={address.partition('://')[2]}&scheme=http"
        with pytest.raises(RequestError, match="store.url=gs://.*its login is refused.*GOOGLE_APPLICATION_CREDENTIALS"):
            ObjectStore(url).check()
        with pytest.raises(MachineryError, match="key: not fetched, since its login is refused") as caught:
            ObjectStore(url).get("key")
    assert len(asked) == 2 and caught.value.__cause__ is None


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--dry-run"], []], ids=["a dry run", "a start"])
def test_a_sweep_whose_login_is_refused_ends_before_any_work(s3, tiny_encoder, photographs, tmp_path, more):
    settings = {**quick(tiny_encoder, photographs, tmp_path), "data.tokens_dir": str(tmp_path / "tokens")}
    file, login = write_sweep(tmp_path, {**settings, "store.url": s3.url}), {"AWS_SECRET_ACCESS_KEY": "plantedOfS3"}
    with refusing("SignatureDoesNotMatch", 403) as (address, asked):
        done = run(tmp_path, file, *more, AWS_ENDPOINT_URL=address, **login)
    assert done.returncode == 2 and len(asked) == 1, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: store.url={s3.url}: its login is refused")
    assert "plantedOfS3" not in done.stdout + done.stderr
    assert not (tmp_path / "tokens").exists() and {p.name for p in tmp_path.rglob("outputs/*/*")} <= {".lock"}


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
        ("file://host/folder", "must read file:///FOLDER, or s3://BUCKET/PREFIX"),
        ("file:///", "must read file:///FOLDER"),
        ("file:////", "must read file:///FOLDER"),
        ("S3://bucket/x", "must begin with s3://, gs://, file://"),
        ("FILE:///folder", "must begin with s3://, gs://, file://"),
        ("file:///a#f", "has a #, and nothing may follow its folder but parameters; a # of a name is written %23"),
        ("s3://bucket/a#", "has a #"),
        ("gs://bucket/a?scheme=http#f", "has a #"),
        ("gs://bucket/a?region=x", "its parameters may be endpoint_override, scheme; it has region"),
        ("file:///a?region=x", "an address of file:// may have no parameters; it has region"),
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
        "file:///folder/a%23f",
        "s3://b/x?endpoint_override=host:9000&scheme=http",
    ):
        assert config.compose({"store.url": url}).store.url == url
