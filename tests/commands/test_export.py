"""What `toconv export --to` may replace."""

import shutil

import pytest

from tests.repository import REPOSITORY
from toconv.commands import export
from toconv.errors import RequestError

EARLIER = REPOSITORY / "tests/export/written_by_0.1.0/pool_conv"


@pytest.fixture
def earlier(tmp_path):
    """An export of an earlier version."""
    shutil.copytree(EARLIER, tmp_path / "k6", ignore=shutil.ignore_patterns("expected.*"))
    return tmp_path / "k6"


def refused(target):
    with pytest.raises(RequestError) as caught:
        export.main(["mine", "--k", "6", "--to", str(target)])
    return str(caught.value)


def test_an_earlier_export_is_replaced_and_a_new_folder_is_made(earlier):
    for target in (earlier, earlier.parent / "new", earlier.parent / "new/deeper"):
        assert "holds no sweep" in refused(target)
    (earlier / "model.onnx").touch()
    assert "holds no sweep" in refused(earlier)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "model.pt", "pictures"])
def test_an_export_that_holds_other_peoples_files_is_refused_by_their_names(earlier, name):
    (earlier / name).mkdir() if "." not in name or name == ".git" else (earlier / name).touch()
    assert f"holds what is no part of an export, and is not replaced: {name}" in refused(earlier)
    assert (earlier / name).exists()


@pytest.mark.parametrize("name", ["config.json", "README.md", "latest.pt"])
def test_a_folder_that_is_no_export_is_refused(tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("{}")
    (tmp_path / "link").symlink_to("mine")
    for target in (tmp_path / "mine", tmp_path / "link", tmp_path / "mine/../mine"):
        assert "holds something else than an earlier export" in refused(target)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "mine").touch()
    assert "is a file; name a folder" in refused(tmp_path / "mine")
    assert "is a file; name a folder" in refused(tmp_path / "mine/k6")
