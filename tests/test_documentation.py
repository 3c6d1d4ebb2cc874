"""README and docs/: short where it must be, true to the code, and the build that fails at a link to nothing."""

import ast
import re
import shlex
import shutil
import subprocess
import sys

import jupytext
import pytest
from nbclient import NotebookClient

from tests import ray_cluster
from tests.architecture import PACKAGE, parsed
from tests.conftest import quick
from tests.repository import REPOSITORY
from toconv import config
from toconv.__main__ import COMMANDS
from toconv.setting_names import CHANGE_NO_NUMBER
from toconv.settings import GRID_SIZE
from toconv.sweep.file import load_sweep

DOCS = REPOSITORY / "docs"
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )?(toconv (?:sweep|train)) (.*)$", re.M)  # a line of a block
FAULTS = {  # what a page says: what the build says of it
    "[gone](gone.md)": "target not found: 'gone.md'",
    "[no such place](sound.md#nowhere)": "local id not found in doc 'docs/sound': 'nowhere'",
    "![no such picture](gone.png)": "image file not readable: docs/gone.png",
}


def test_the_readme_fits_two_screens():
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    assert len(lines) <= 100 and max(map(len, lines)) <= 100


def test_each_page_of_the_documentation_is_linked_from_the_readme():
    linked = set(re.findall(r"\(docs/(\w+)\.md\)", (REPOSITORY / "README.md").read_text()))
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} == linked


def test_each_message_of_the_page_of_errors_is_one_of_the_code():
    text = "\n".join(
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    messages = re.findall(r"^\| `(.*?)` \|", (DOCS / "errors.md").read_text(), re.M)
    assert len(messages) > 40
    parts = [(message, part) for message in messages for part in message.split("…") if part.strip(" ,;.:()")]
    assert [(message, part) for message, part in parts if part not in text] == []


def test_each_command_is_told_of():
    told = (DOCS / "commands.md").read_text()
    assert [name for name in COMMANDS if f"`toconv {name}" not in told and f"`{name}`" not in told] == []


def test_each_sweep_file_is_told_of():
    told = (DOCS / "sweep_file.md").read_text()
    assert [path.name for path in (REPOSITORY / "sweeps").iterdir() if f"`{path.name}`" not in told] == []


def test_the_settings_that_change_no_number_are_those_of_the_code():
    told = (DOCS / "settings.md").read_text().partition("## What decides")[2].partition("##")[0]
    assert sorted(re.findall(r"`(.*?)`", told)) == sorted(CHANGE_NO_NUMBER)


@pytest.mark.slow
def test_each_sweep_and_training_that_the_pages_show_is_a_valid_request():
    seen = set()
    for page in [REPOSITORY / "README.md", *DOCS.glob("*.md")]:
        for command, rest in COMMAND.findall(page.read_text().replace("\\\n", " ")):
            words = [word for word in shlex.split(rest, comments=True) if not word.startswith("--")]
            if command.endswith("sweep"):
                load_sweep(REPOSITORY / words[0], words[1:])
            else:
                config.compose(config.parse_overrides(words))
            seen.add(page.name)
    assert {"README.md", "quickstart.md", "encoders_and_data.md", "cluster.md"} <= seen


def built(folder, pages):
    """A site of these pages, with the settings of this one's."""
    (folder / "docs").mkdir()
    shutil.copy(DOCS / "conf.py", folder / "docs")
    for name, text in pages.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "dummy", "-c", "docs", ".", "_build"],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def listing(*pages):
    return "\n".join(["# Pages", "", "```{toctree}", *pages, "```", ""])


def test_a_site_whose_links_lead_somewhere_is_built(tmp_path):
    sound = "# Sound\n\n[here](#some-place) [there](other.md#a-place)\n\n## Some place\n"
    done = built(tmp_path, {"index": listing("sound", "other"), "sound": sound, "other": "# Other\n\n## A place\n"})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_link_to_nothing_and_a_page_that_nobody_lists_fail_the_build(tmp_path):
    broken = "# Broken\n\n" + "\n\n".join(FAULTS)
    pages = {"index": listing("sound", "broken", "lost"), "sound": "# Sound\n", "broken": broken, "unlisted": "# Un\n"}
    done = built(tmp_path, pages)
    assert done.returncode == 1
    expected = [*FAULTS.values(), "nonexisting document 'docs/lost'", "unlisted.md: WARNING: document isn't included"]
    assert [told for told in expected if told not in done.stderr] == [], done.stderr


@pytest.mark.slow
def test_the_notebook_goes_from_a_sweep_to_compressed_tokens(tiny_encoder, photographs, tmp_path, monkeypatch):
    own = {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(REPOSITORY)}
    for key, value in {**ray_cluster.environment(), **own}.items():
        monkeypatch.setenv(key, value)
    given = quick(tiny_encoder, photographs, tmp_path) | {"training.epochs": 1, "resources.cpu": 2}
    del given[GRID_SIZE]
    words = [config.override_text(key, value) for key, value in given.items()]
    encoder = [word for word in words if word.startswith("encoder")]
    settings = [word for word in words if word not in encoder]
    notebook = jupytext.read(DOCS / "notebook.md")
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = f"name, grid_sizes, k = 'tiny', [3], 3\n{settings = }\n{encoder = }"
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = "".join(str(output.get("text", output.get("data"))) for output in outputs)
    assert "torch.Size([9, 32])" in shown and "tiny: (36, 32) tokens from (9, 32)" in shown
    assert (tmp_path / "tiny.png").stat().st_size > 5000 and "image/png" in shown
    assert (tmp_path / "compressed" / "china.png").exists()
