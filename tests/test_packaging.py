"""What `pip install` brings: the wheel's files, the command in any folder, an export of the release before."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.repository import REPOSITORY
from tests.running import write_sweep
from toconv import __version__, paths
from toconv.errors import SAMPLES_COMMAND

EXTRAS = {
    "sweep": "requirements.txt",
    "client": "requirements/client.txt",
    "llava": "requirements/llava.txt",
    "onnx": "requirements/onnx.txt",
    "postgresql": "requirements/postgresql.txt",
    "wandb": "requirements/wandb.txt",
}
LOAD = """
import sys, toconv
from pathlib import Path
from safetensors.torch import load_file
from torch.testing import assert_close  # processors add in different orders
compressor, expected = toconv.load(sys.argv[1]), load_file(Path(sys.argv[1]) / "expected.safetensors")
compressed = compressor(expected["tokens"])
assert_close(compressed, expected["compressed"])
assert_close(compressor.decompress(compressed), expected["restored"])
print(toconv.__file__)
"""


def lines(file):
    return [line for line in (REPOSITORY / file).read_text().splitlines() if line and not line.startswith("#")]


def pip(*arguments):
    return subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, arguments)], check=True, timeout=300)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves build/ beside the sources, and takes what it finds there the next time."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("toconv", "conf", "sweeps", "tests", "benchmarks", "requirements"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE", "run_sweep.py", "train.py"):
        shutil.copy(REPOSITORY / name, source)
    pip("wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", target)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment with this wheel, with the libraries of this process."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    pip("--python", folder, "install", "--no-deps", wheel)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def run(command, *arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [str(command), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120, env=environment
    )


def as_words(overrides):
    return [f"{key}={'null' if value is None else value}" for key, value in overrides.items()]


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_conf_and_nothing_else(wheel):
    folders = {"toconv": REPOSITORY / "toconv", "toconv/conf": REPOSITORY / "conf"}
    expected = {
        f"{at}/{path.relative_to(folder)}"
        for at, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if f"toconv-{__version__}.dist-info/" not in name} == expected
    assert {"toconv/conf/config.yaml", "toconv/report/page/page.css", "toconv/report/page/page.js"} <= expected


@pytest.mark.slow
def test_the_wheel_says_what_it_needs_and_what_its_command_is(wheel):
    archive = zipfile.ZipFile(wheel)
    said, command = (
        archive.read(f"toconv-{__version__}.dist-info/{name}").decode() for name in ("METADATA", "entry_points.txt")
    )
    assert command.split() == ["[console_scripts]", "toconv", "=", "toconv.__main__:main"]
    metadata = Parser().parsestr(said)
    assert metadata["Version"] == __version__
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    needs = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    for extra, file in EXTRAS.items():
        found = {str(r).partition(";")[0].strip() for r in needs if r.marker and r.marker.evaluate({"extra": extra})}
        assert found == {str(Requirement(line)) for line in lines(file)}, extra
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pool_conv", "pca_attention"])
def test_an_export_of_0_1_0_gives_the_same_numbers_where_toconv_is_installed(installed, tmp_path, name):
    done = run(
        installed / "python", "-c", LOAD, REPOSITORY / "tests" / "export" / "written_by_0.1.0" / name, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.parent), "not of the repository"


@pytest.mark.slow
def test_the_installed_command_finds_its_settings_in_any_folder(installed, tiny, tmp_path):
    sweep = write_sweep(tmp_path, tiny)
    done = run(installed / "toconv", "sweep", sweep.name, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = run(installed / "toconv", "train", "data=elsewhere", cwd=tmp_path)
    assert refused.returncode == 2 and all(name in refused.stderr for name in ("folder", "imagenet", "sample"))


@pytest.mark.slow
def test_a_command_whose_libraries_are_not_there_says_what_to_install(installed, tmp_path):
    without = f"import sys; sys.path.remove({sysconfig.get_paths()['purelib']!r}); from toconv.__main__ import main; "
    done = run(installed / "python", "-c", without + "sys.exit(main(['sweep', 'mine.yaml']))", cwd=tmp_path)
    assert done.returncode == 2 and 'pip install "toconv[sweep]"' in done.stderr, done.stderr


@pytest.mark.slow
def test_the_installed_command_writes_to_the_working_directory(installed, tiny, tmp_path):
    kept = {path for path in installed.parent.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    own = ("experiment.checkpoint_dir", "experiment.tracking_uri", "data.tokens_dir")
    overrides = {key: value for key, value in tiny.items() if key not in own}
    done = run(installed / "toconv", "train", *as_words(overrides), "training.epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"checkpoints", "mlflow.db", "outputs"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "checkpoints" / "latest.pt").is_file()
    left = {path for path in installed.parent.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    assert left == kept, "the installed copy is written to by nobody"


def test_a_checkout_is_known_by_having_no_settings_in_the_package():
    assert paths.CHECKOUT == REPOSITORY and REPOSITORY / "conf" == paths.CONF


def test_the_samples_command_names_the_pinned_versions():
    assert SAMPLES_COMMAND.split() == ["pip", "install", "--no-deps", *lines("requirements-samples.txt")]


def test_every_extra_is_tested_and_nothing_is_pinned_twice():
    included = {line.removeprefix("-r ") for line in lines("requirements-extras.txt") if line.startswith("-r ")}
    assert included == {file for file in EXTRAS.values() if file != "requirements.txt"}
    assert included == {f"requirements/{path.name}" for path in (REPOSITORY / "requirements").iterdir()}
    own = ["requirements.txt", *(f"requirements-{kind}.txt" for kind in ("samples", "extras", "dev", "axe"))]
    pinned = [Requirement(line) for file in (*own, *included) for line in lines(file) if not line.startswith("-r ")]
    assert [str(r) for r in pinned if [s.operator for s in r.specifier] != ["=="]] == []
    assert len({r.name.lower() for r in pinned}) == len(pinned)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_refuses_a_python_that_is_not_supported(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.10.13\n')
    python.chmod(0o755)
    done = run("make", "install", f"VENV={tmp_path}/venv", f"PYTHON={python}", cwd=REPOSITORY)
    assert done.returncode == 2 and "toconv needs Python 3.11, 3.12 or 3.13" in done.stdout
    assert "Python 3.10.13" in done.stdout and not (tmp_path / "venv").exists()
