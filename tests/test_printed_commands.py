"""Every command that toconv prints elsewhere than at a command's end, pasted into a shell."""

import ast
import re
import sys
from html import escape, unescape

import pytest

from tests.compressors import compressor, small_encoder
from tests.export.test_model_card import ABOUT
from tests.pasting import pasted
from tests.records import record
from tests.report.test_report import content
from tests.repository import REPOSITORY
from toconv import config
from toconv.analysis.records import State
from toconv.command_line import pasteable
from toconv.commands import train
from toconv.export.recommended import reproduce
from toconv.paths import SweepPaths
from toconv.report.content import Content
from toconv.report.page.overview import how_to_reproduce
from toconv.report.page.recommended import which_compressor
from toconv.report.page.trainings import what_failed
from toconv.sweep.session import sync_command
from toconv.tracking.provenance import Provenance
from toconv.tracking.run_facts import sweep_note

FOLDERS = ["my outputs", "it's", 'a"b', "фото (1)", "[red]", "a;b&c$d"]


def commands(html):
    return [unescape(text) for text in re.findall(r"<pre tabindex=0><code>(.*?)</code>", html, re.DOTALL)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_those_of_a_report_and_of_mlflow(folder, tmp_path, monkeypatch):
    root = tmp_path / folder / "outputs" / "grid_sizes"
    failed = record("b", 36, 0.5, state=State.FAILED, params={"hardware.threads": None, "data.root": folder})
    records = [record("a", 36, 0.2, kept=True, folder=root / "trials" / "a"), failed]
    started = pasteable(["python", "run_sweep.py", f"{folder}.yaml"])
    made = content(records, command=started)
    monkeypatch.setattr(Content, "paths", SweepPaths(root))
    in_shell, in_python = commands(which_compressor(made))
    assert pasted(in_shell)[-1] == str(root / "recommended" / "k6")
    (path,) = [node.value for node in ast.walk(ast.parse(in_python)) if isinstance(node, ast.Constant)]
    assert path == str(root / "recommended" / "k6")
    assert pasted(commands(what_failed(made))[0])[-1] == f"trial.{config.override_text('data.root', folder)}"
    assert commands(how_to_reproduce(made))[0] == started
    assert f"<code>{escape(str(root / 'results.csv'))}</code>" in how_to_reproduce(made)
    origin = Provenance("grid_sizes", root, "", None, None, tmp_path / "f00d", "tiny", (36, 32), {})
    (noted,) = re.findall(r"`(toconv compress .*)`", sweep_note(origin, records))
    assert pasted(noted)[-1] == str(root / "trials" / "a")


@pytest.mark.parametrize("name", ["mine", "-x"])
def test_the_one_that_delivers_by_hand(name):
    assert pasted(sync_command(name))[-1] == name


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_one_that_goes_on_with_a_training(folder, tmp_path, monkeypatch):
    latest = tmp_path / folder / "latest.pt"
    latest.parent.mkdir()
    words = ["train.py", "resume=old.pt", f"experiment.checkpoint_dir={latest.parent}", "hardware.threads=null"]
    monkeypatch.setattr(sys, "argv", list(words))
    assert pasted(train.how_to_go_on().removeprefix("to go on: "))[2:] == words[2:]
    for newest in (latest, latest.with_name("interrupted.pt"), latest):
        newest.write_text("newer")
        monkeypatch.setattr(sys, "argv", list(words))
        *_, resumed = pasted(train.how_to_go_on().removeprefix("to go on: "))
        assert config.parse_overrides([resumed]) == {"resume": str(newest)}


def test_the_one_of_a_model_card():
    asked = {"encoder.name": 'say "hi" (1)', "training.betas": [0.5, 0.9], "loss.log_ratio": None}
    settings = config.compose({**asked, "training.learning_rate": 1e-5, "data.train_pictures": 7})
    made = compressor(
        3,
        small_encoder(),
        results=None,
        **{**ABOUT, "reproduce": {**ABOUT["reproduce"], "settings": reproduce(settings)}},
    )
    (command,) = re.findall(r"```\n(python train.py .*)\n```", str(made.generate_model_card()))
    again = config.compose(config.parse_overrides(pasted(command)[2:]))
    assert (again.encoder, again.training, again.loss, again.data) == (
        settings.encoder,
        settings.training,
        settings.loss,
        settings.data,
    )


def test_pages_that_a_printed_command_opens_are_for_this_machine_alone():
    from mlflow.cli import cli
    from optuna_dashboard._config import DashboardConfig

    (host,) = (
        option.default for option in cli.commands["server"].params if option.name == "host"
    )  # `ui` is another name
    assert host == DashboardConfig().host == "127.0.0.1"
    told = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "toconv").rglob("*.py")]
    assert not [path for path in told if "--host" in path.read_text() or "0.0.0.0" in path.read_text()]
