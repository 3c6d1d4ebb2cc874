"""From pictures to tokens and a map, with an export or a checkpoint."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import toconv
from tests.repository import REPOSITORY
from tests.running import toconv_command
from tests.small_encoders import small_encoder
from toconv import config
from toconv.commands import compress
from toconv.config import parse_overrides
from toconv.errors import EncoderMismatch, ExitCode, RequestError
from toconv.evaluation.distortion import Distortion
from toconv.export.from_checkpoint import from_checkpoint
from toconv.export.pictures import open_compressor
from toconv.integrations.vision_tower import CompressedVisionTower
from toconv.paths import TrialPaths
from toconv.tokens.encoders import load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.images import Picture
from toconv.tokens.pixels import crops
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training
from toconv.training.resumable import ResumableTraining

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tiny_encoder, photographs, tmp_path_factory):
    """Settings, the folder of a trial and an export of it."""
    folder = tmp_path_factory.mktemp("trained")
    settings = config.compose(
        {
            **tiny_encoder,
            "data": "folder",
            "data.root": str(photographs),
            "data.crops": 1,
            "data.tokens_dir": str(folder / "tokens"),
            "model.compressor.width": 8,
            "model.decoder.width": 8,
            "training.epochs": 1,
            "training.batch_size": 8,
            "loss.wgan_weight": 0,
            "hardware.device": "cpu",
            "hardware.mixed_precision": False,
            "hardware.threads": 1,
        }
    )
    training = Training(settings, TokenStore(prepare_store(settings)), CPU)
    paths = TrialPaths(folder / "trial")
    list(ResumableTraining(training, paths).epochs())
    from_checkpoint(paths.folder)[0].save_pretrained(folder / "export")
    return settings, paths.folder, folder / "export"


def encoder_words(settings):
    return [f"encoder.{name}={getattr(settings.encoder, name)}" for name in ("weights", "architecture", "dtype")]


def command(cwd, *arguments):
    return toconv_command(cwd, "compress", *arguments)


def encoded(settings, paths):
    centre = settings.data.model_copy(update={"crops": 1})
    pixels = torch.cat([crops(Picture("", path), centre, settings.encoder) for path in paths])
    return load_encoder(settings.encoder, CPU)(pixels)


def test_a_folder_becomes_tokens_and_maps_and_the_summary_is_the_metrics(trained, photographs, tmp_path):
    settings, _, export = trained
    pictures = tmp_path / "pictures"
    (pictures / "sub").mkdir(parents=True)
    sources = sorted(photographs.iterdir())[:3]
    for source, target in zip(sources, ("one", "sub/one", "sub/two"), strict=True):
        shutil.copy(source, pictures / f"{target}{source.suffix}")
    done = command(tmp_path, pictures, "--checkpoint", export, "--output", "out", *encoder_words(settings))
    assert done.returncode == 0, done.stderr
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {f"{key}{suffix}" for key in ("one", "sub/one", "sub/two") for suffix in (".png", ".safetensors")}
    compressor, (x, classes) = toconv.load(export), encoded(settings, sources)
    with torch.no_grad():
        z = compressor(x)
        lost = Distortion()
        lost.add(compressor.standardised(x), compressor.standardised(compressor.decompress(z)))
        distortion, cosine = lost.results().tolist()
    for number, key in enumerate(("one", "sub/one", "sub/two")):
        found = load_file(tmp_path / "out" / f"{key}.safetensors")
        torch.testing.assert_close(found["tokens"], z[number])
        torch.testing.assert_close(found["class_token"], classes[number, 0])
    assert Image.open(tmp_path / "out" / "one.png").size[0] > 500
    assert len(re.findall(r"% of variance not recovered; out/", done.stdout)) == 3
    last = done.stdout.splitlines()[-1]
    assert "3 picture(s) compressed, 0 skipped: 36 -> 9 tokens by tiny, ratio 4;" in last
    assert f"mean cosine {cosine:.4f} (centred), {100 * distortion:.1f} % of variance" in last
    assert re.search(r"encoder [\d.e+]+ pictures/s, compressor [\d.e+]+ pictures/s on CPU", last)


def test_a_trials_folder_and_a_checkpoint_file_open_as_the_export_does(trained, photographs):
    settings, trial, export = trained
    x, _ = encoded(settings, sorted(photographs.iterdir())[:2])
    opened = [
        open_compressor(str(trial), {}),
        open_compressor(str(trial / "latest.pt"), {}),
        open_compressor(str(export), parse_overrides(encoder_words(settings))),
    ]
    assert [found.encoder for _, found in opened] == [settings.encoder] * 3
    first, *others = (compressor(x) for compressor, _ in opened)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("name", "size", "g", "k", "beside"),
    [
        ("tiny_siglip", 110, 27, 6, {}),
        ("tiny_siglip_gap", 64, 16, 5, {}),
        ("tiny_dinov2_reg4", 148, 37, 12, {"class_token": (32,), "prefix_tokens": (5, 32)}),
        ("test_vit3", 224, 14, 4, {"prefix_tokens": (1, 96)}),
    ],
)
def test_an_encoder_of_any_grid_trains_exports_and_compresses(photographs, tmp_path, name, size, g, k, beside):
    pictures = {"data": "folder", "data.root": str(photographs), "data.crops": 1}
    small = {"training.epochs": 1, "training.n_critic": 1, "hardware.device": "cpu", "hardware.mixed_precision": False}
    widths = {f"model.{part}.width": 8 for part in ("compressor", "decoder", "critic")}
    asked = small_encoder(tmp_path, name, **{"encoder.image_size": size, "encoder.name": "mine"})
    asked |= {**pictures, **small, **widths, "data.tokens_dir": str(tmp_path), "model.compressor.output_grid_size": k}
    settings = config.compose(asked)
    store = TokenStore(prepare_store(settings))
    paths = TrialPaths(tmp_path / "trial")
    (epoch,) = ResumableTraining(Training(settings, store, CPU), paths).epochs()
    assert store.grid_size == settings.encoder.grid_size == g and -1 <= epoch.metrics["embedding_agreement"] <= 1
    from_checkpoint(paths.folder)[0].save_pretrained(tmp_path / "export")
    facts = [f"encoder.{key}={settings.encoder.model_dump()[key]}" for key in ("weights", "dtype")]
    words = [photographs / "00.jpg", "--checkpoint", tmp_path / "export", "--output", tmp_path / "out", *facts]
    timm_name = [f"encoder.architecture={name}"]
    assert compress.main([str(word) for word in (*words, *timm_name)]) == ExitCode.DONE
    found = load_file(tmp_path / "out" / "00.safetensors")
    assert found.pop("tokens").shape == (k * k, store.width)
    assert {key: tuple(values.shape) for key, values in found.items()} == beside
    tower = CompressedVisionTower(tmp_path / "export", settings.encoder)
    assert tower(torch.randn(1, 3, size, size)).shape == (1, k * k, store.width)


def test_unreadable_pictures_are_named_and_skipped_with_exit_code_3(trained, photographs, tmp_path):
    _, trial, _ = trained
    shutil.copytree(photographs, tmp_path / "pictures")
    for name, content in (("bad.jpg", b"no picture"), ("empty.png", b"")):
        (tmp_path / "pictures" / name).write_bytes(content)
    done = command(tmp_path, "pictures/*", "--checkpoint", trial, "--output", "out")
    assert done.returncode == 3, done.stderr
    skipped = [line for line in done.stdout.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 2 and "empty.png: the file is empty" in skipped[1]
    assert "bad.jpg: not a picture that can be read (" in skipped[0] and ".cpp" not in skipped[0]
    assert "12 picture(s) compressed, 2 skipped" in done.stdout
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 12


def test_what_cannot_be_done_is_refused_in_one_message(trained, tmp_path):
    _, trial, _ = trained
    done = command(tmp_path, "nowhere.jpg", "other.jpg", "--checkpoint", trial, "--fast")
    assert done.returncode == 2
    assert (
        all(word in done.stderr for word in ("nowhere.jpg", "other.jpg", "--fast")) and "Traceback" not in done.stderr
    )
    (tmp_path / "a.jpg").touch()
    done = command(tmp_path, "a.jpg", "--checkpoint", "missing.pt")
    assert "missing.pt: no such checkpoint" in done.stderr and "Traceback" not in done.stderr
    done = command(tmp_path, "--checkpoint", trial)
    assert done.returncode == 2 and "name a picture, a folder or a quoted glob" in done.stderr


def test_another_encoder_is_refused_with_both_values(trained, tmp_path):
    settings, trial, export = trained
    with pytest.raises(EncoderMismatch, match="layer: .* -2, this one has -1"):
        open_compressor(str(trial), {"encoder.layer": -1})
    with pytest.raises(EncoderMismatch, match="layer: .* -2, this one has -3"):
        open_compressor(str(export), parse_overrides([*encoder_words(settings), "encoder.layer=-3"]))
    with pytest.raises(EncoderMismatch, match="width: .* 32, this one has 64"):
        open_compressor(str(trial), {"encoder.width": 64})
    state = torch.load(settings.encoder.weights)
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "other.pt")
    with pytest.raises(EncoderMismatch, match="weights: .*sha256:.*this one has 'sha256:"):
        open_compressor(str(trial), {"encoder.weights": str(tmp_path / "other.pt")})


def test_an_export_of_an_encoder_that_conf_does_not_know_asks_where_it_is(trained):
    settings, _, export = trained
    with pytest.raises(RequestError, match="encoder.architecture=FILE encoder.weights=FILE"):
        open_compressor(str(export), {})
    compressor, found = open_compressor(str(export), parse_overrides(encoder_words(settings)))
    assert compressor.k == 3 and found.encoder == settings.encoder


def test_its_map_shows_where_the_error_is(trained, photographs, tmp_path):
    """The brightest cell of the drawn map is the token that lost most."""
    from toconv.report.figures import error_map

    settings, _, export = trained
    compressor, picture = toconv.load(export), sorted(photographs.iterdir())[0]
    pixels = crops(Picture("", picture), settings.data, settings.encoder)[0]
    drawn = []
    for cell in (0, 35):
        lost = torch.zeros(36)
        lost[cell] = 1.0
        path = tmp_path / f"{cell}.png"
        path.write_bytes(error_map(pixels, lost.view(6, 6), compressor))
        drawn.append(
            torch.tensor(list(Image.open(path).convert("L").tobytes()), dtype=torch.float).view(
                Image.open(path).size[::-1]
            )
        )
    difference = drawn[0] - drawn[1]
    (top, left), (bottom, right) = (
        divmod(int(f(difference)), difference.shape[1]) for f in (torch.argmax, torch.argmin)
    )
    assert top < bottom and left < right


def test_without_the_sweeps_libraries_the_command_says_what_to_install(trained, photographs, tmp_path):
    _, _, export = trained
    code = (
        "import sys\nclass R:\n    def find_spec(self, name, *rest):\n        if name.split('.')[0] == 'hydra':\n"
        "            raise ModuleNotFoundError(name, name='hydra')\nsys.meta_path.insert(0, R())\n"
        "from toconv.__main__ import main; sys.exit(main(['compress', *sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(photographs), "--checkpoint", str(export)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert (
        done.returncode == 2 and "hydra is not installed" in done.stderr and 'pip install -e ".[sweep]"' in done.stderr
    )


def test_the_same_command_twice_writes_over_its_own_outputs_alone(trained, photographs, tmp_path, monkeypatch, capsys):
    _, trial, _ = trained
    monkeypatch.chdir(tmp_path)
    shutil.copy(photographs / "01.png", "holiday.png")
    Image.fromarray(torch.arange(6400, dtype=torch.int32).mul(10).view(80, 80).numpy().astype("uint16")).save("16.png")
    (tmp_path / os.fsdecode(b"\xff[b] :x:.jpg")).write_bytes((photographs / "00.jpg").read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(2):
        assert compress.main([".", "--checkpoint", str(trial)]) == ExitCode.DONE
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    written = sorted(path.name for path in (tmp_path / "compressed").iterdir())
    keys = ("16", r"\xff[b] :x:", "holiday")
    assert written == sorted(f"{key}{suffix}" for key in keys for suffix in (".png", ".safetensors"))
    said = capsys.readouterr().out
    assert said.count("3 picture(s) compressed, 0 skipped") == 2 and "a map that toconv compress drew" in said
    assert r"\xff[b] :x:.jpg: " in said
