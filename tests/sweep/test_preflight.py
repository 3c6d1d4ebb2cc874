"""What a machine may lack, and a folder may be, before any work."""

import resource
import socket
from pathlib import Path

import pytest

from toconv.errors import MachineryError, RequestError
from toconv.paths import SweepPaths, unwritable
from toconv.sweep import preflight
from toconv.sweep.preflight import check_folders, check_ledger, check_ray, moved, ray_folder

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.mark.parametrize("length", [40, 90, 103, 300])
def test_a_folder_that_is_too_long_for_sockets_is_left_for_a_short_one(length, monkeypatch, tmp_path):
    named = tmp_path / "a" / ("b" * min(length, 200)) / ("c" * max(0, length - 200))
    named.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(named))
    assert ray_folder() == Path("/tmp") and str(named) in moved()
    monkeypatch.setenv("RAY_TMPDIR", "/var/tmp")
    assert ray_folder() == Path("/var/tmp") and moved() is None


def test_the_longest_folder_that_is_taken_gives_a_path_that_a_socket_can_have(tmp_path):
    longest = "/" + "x" * (preflight.LONGEST_SOCKET - preflight.SOCKET_BELOW - 1)
    path = f"{longest}/ray_12345678/s/session_2026-11-28_09-22-34_859000_4194304/sockets/plasma_store.10"
    assert len(path) == preflight.LONGEST_SOCKET
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(FileNotFoundError):  # and not: AF_UNIX path too long
        probe.bind(path)


@pytest.mark.parametrize("named", ["/nowhere/at/all", "/proc", "/dev/null"])
def test_a_folder_that_cannot_be_written_is_left_for_one_that_can(named, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", named)
    assert ray_folder() == Path("/tmp")


def test_without_any_folder_for_sockets_it_says_what_to_set(monkeypatch):
    monkeypatch.setattr(preflight, "SHORT_FOLDERS", ())
    monkeypatch.setenv("TMPDIR", "/" + "x" * 103)
    with pytest.raises(MachineryError, match="no folder for Ray's sockets: /x+ cannot be written or are longer"):
        check_ray()


def test_everything_that_the_machine_lacks_is_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "SHARED", tmp_path / "shm")
    monkeypatch.setattr(preflight, "SESSION_BYTES", 2**62)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    with pytest.raises(MachineryError) as caught:
        check_ray()
    for part in ("/tmp: Ray's session takes", "shm: is not there", "may open 64 files here, Ray needs 256"):
        assert part in str(caught.value)


def test_a_small_shared_memory_does_where_the_disk_has_room(monkeypatch, tmp_path):
    room = {preflight.SHARED: 0, Path("/tmp"): 2**40}
    monkeypatch.setattr(preflight, "free_bytes", room.__getitem__)
    check_ray()
    room[Path("/tmp")] = preflight.SESSION_BYTES
    with pytest.raises(MachineryError, match="/dev/shm and /tmp: 100 MB must be free"):
        check_ray()


def test_ports_that_cannot_be_listened_on_are_told(monkeypatch):
    monkeypatch.setattr(preflight, "PORTS", 10**6)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    try:
        with pytest.raises(MachineryError, match="ports cannot be listened on"):
            check_ray()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "folder", ["/proc/tokens", "/dev/null/tokens", "/sys/kernel/tokens", "{}/tiny.yaml", "{}/dangling/t"]
)
def test_a_folder_that_cannot_be_written_is_refused_before_work(asked, tmp_path, folder):
    (tmp_path / "dangling").symlink_to("nowhere")
    folder = folder.format(tmp_path)
    with pytest.raises(RequestError, match=f"data.tokens_dir={folder}: .* cannot be written"):
        check_folders(asked(f"data.tokens_dir={folder}"), SweepPaths(tmp_path / "outputs" / "tiny"))


def test_every_folder_that_a_sweep_writes_is_looked_at_and_nothing_is_left_there(asked, monkeypatch, tmp_path):
    (tmp_path / "outputs").write_text("a file")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/mlflow.db")
    with pytest.raises(RequestError) as caught:
        check_folders(asked("data.tokens_dir=/proc/x"), SweepPaths(tmp_path / "outputs" / "tiny"))
    assert len(caught.value.mistakes) == 3 and "MLflow's store (MLFLOW_TRACKING_URI)" in str(caught.value)
    before = set(tmp_path.rglob("*"))
    assert unwritable(tmp_path / "new" / "folder") is None and set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("named", ["/proc/nope", "{}/tiny.yaml"])
def test_a_folder_of_copies_that_cannot_be_written_is_refused_before_work(asked, monkeypatch, tmp_path, named):
    """Only where copies are asked for."""
    monkeypatch.setenv("TOCONV_CACHE", named.format(tmp_path))
    check_folders(asked(), SweepPaths(tmp_path / "outputs" / "tiny"))
    with pytest.raises(RequestError, match="store.local_cache_gb=2: .*token-copies cannot be written .*TOCONV_CACHE"):
        check_folders(asked("store.local_cache_gb=2"), SweepPaths(tmp_path / "outputs" / "tiny"))


@pytest.mark.parametrize(
    ("name", "is_folder"), [("report.html", True), ("results.csv", True), ("figures", False), ("recommended", False)]
)
def test_what_stands_in_the_place_of_an_output_is_told_before_work(asked, tmp_path, name, is_folder):
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    (paths.root / name).mkdir() if is_folder else (paths.root / name).touch()
    with pytest.raises(RequestError, match=f"{name}: is a {'folder' if is_folder else 'file'}, and the sweep writes"):
        check_folders(asked(), paths)


@pytest.mark.parametrize("written", ["outputs/tiny", "outputs/../outputs/tiny/", "link"])
def test_a_sweep_in_the_folder_of_the_tokens_is_refused(asked, tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("outputs/tiny")
    with pytest.raises(RequestError, match="name=tiny: its folder would be that of the tokens"):
        check_folders(asked(f"data.tokens_dir={written}"), SweepPaths(tmp_path / "outputs" / "tiny"))


@pytest.mark.parametrize("kind", ["", "H100 80GB", "a" * 65, "NVIDIA,A100"])
def test_what_is_no_kind_of_accelerator_is_a_wrong_request(asked, kind):
    with pytest.raises(RequestError, match="resources.accelerator"):
        asked(f"resources.accelerator='{kind}'")


def test_where_the_ledger_lies_is_said_and_a_database_that_is_not_there_is_refused(asked, tmp_path):
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    assert check_ledger(asked(), paths) == f"ledger: {paths.study}" and not paths.root.exists()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"postgresql://me@127.0.0.1:{nobody.getsockname()[1]}/db"
        with pytest.raises(RequestError, match=f"storage.study={address}: cannot be opened .*refused"):
            check_ledger(asked(f"storage.study={address}"), paths)
