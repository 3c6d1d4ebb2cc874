"""A compressor as others use it: what is written, what is read, what is refused, and what it needs."""

import functools
import json
import os
import pickletools
import re
import subprocess
import sys
import threading
from dataclasses import asdict
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata

import pytest
import torch
from huggingface_hub import ModelCard
from packaging.requirements import Requirement
from safetensors.torch import load_file

import toconv
from tests.compressors import ENCODER, compressor, small_encoder, tokens
from tests.repository import REPOSITORY
from toconv.errors import CheckpointError, EncoderMismatch, RequestError
from toconv.export.model_card import BRANCHES
from toconv.settings import COMPRESSORS

STARTS = (("pool", "conv"), ("pca", "attention"), ("linear", "conv"))
KINDS = [(k, init, kind) for k in (1, 3, 4) for init, kind in STARTS]


@pytest.mark.parametrize(("k", "init", "kind"), KINDS)
def test_what_was_saved_is_loaded_to_the_last_bit(tmp_path, k, init, kind):
    check_saved(tmp_path, compressor(k, small_encoder(), init, kind))


@pytest.mark.parametrize("family", COMPRESSORS)
def test_every_family_is_loaded_to_the_last_bit(tmp_path, family):
    made = compressor(4, small_encoder(), "linear", family=family)
    check_saved(tmp_path, made)
    assert BRANCHES[family] in (tmp_path / "export" / "README.md").read_text()


def test_a_nested_compressor_gives_and_takes_back_every_k_of_its_list(tmp_path):
    nested = {"kind": "nested", "init": "linear", "width": 8, "blocks": 1, "grid_sizes": [2, 3, 4]}
    made = compressor(3, small_encoder(), compressor=nested)
    made.save_pretrained(tmp_path / "export")
    loaded, x = toconv.load(tmp_path / "export"), tokens(made)
    for k in (2, 3, 4):
        z = loaded(x, k=k)
        assert z.shape == (2, k * k, 8) and torch.equal(z, made(x, k=k))
        assert loaded.decompress(z).shape == (2, 36, 8) and torch.equal(loaded.decompress(z), made.decompress(z))
        z_grid = loaded(x.unflatten(1, (6, 6)), k=k)
        assert torch.equal(z_grid.flatten(1, 2), z) and torch.equal(
            loaded.decompress(z_grid).flatten(1, 2), loaded.decompress(z)
        )
    assert torch.equal(loaded(x), loaded(x, k=3))
    with pytest.raises(RequestError, match="k=5: this compressor was trained for k = 2, 3, 4"):
        loaded(x, k=5)
    with pytest.raises(EncoderMismatch, match="takes"):
        loaded.decompress(torch.zeros(2, 25, 8))
    card = (tmp_path / "export" / "README.md").read_text()
    assert "One training for k = 2, 3, 4" in card and "compressor(tokens, k=2)" in card


def check_saved(tmp_path, made):
    k = made.k
    made.save_pretrained(tmp_path / "export")
    torch.manual_seed(3)
    expected_draw, _ = torch.rand(1), torch.manual_seed(3)
    loaded = toconv.load(str(tmp_path / "export"))
    assert torch.equal(torch.rand(1), expected_draw), "loading must leave the random state alone"
    x = tokens(made)
    assert not loaded.training and all(p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded(x), made(x)) and loaded(x).shape == (2, k * k, 8)
    assert torch.equal(loaded.decompress(loaded(x)), made.decompress(made(x)))
    assert loaded.encoder == made.encoder and (loaded.grid_size, loaded.k, loaded.width) == (6, k, 8)


def test_an_export_is_safetensors_a_json_config_and_a_card_and_no_pickle(tmp_path):
    made = compressor(3, small_encoder(), "pca")
    made.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["sha256"] == sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert config["encoder"] == json.loads(json.dumps(asdict(made.encoder)))
    held = load_file(tmp_path / "model.safetensors")
    assert torch.equal(held["mean_C"], made.mean_C) and torch.equal(held["std_C"], made.std_C)
    assert "compressor.code.weight_CD" in held and "decoder.start.weight_CD" not in held, "the code is written once"
    assert ModelCard.load(tmp_path / "README.md").data.library_name == "toconv"
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError):
            list(pickletools.genops(path.read_bytes()))


@pytest.mark.parametrize("init", ["pool", "pca", "linear"])
def test_tokens_go_in_and_come_out_in_the_encoders_own_units(init):
    made = compressor(3, small_encoder(), init)
    x = tokens(made)
    z = made.compressor((x - made.mean_C) / made.std_C)
    torch.testing.assert_close(made(x), z * made.std_C + made.mean_C)
    torch.testing.assert_close(made.decompress(made(x)), made.decoder(z) * made.std_C + made.mean_C)


def test_a_grid_of_tokens_gives_a_grid_of_tokens():
    made = compressor(3, small_encoder())
    x = tokens(made)
    z = made(x.unflatten(1, (6, 6)))
    assert z.shape == (2, 3, 3, 8) and torch.equal(z.flatten(1, 2), made(x))
    assert torch.equal(made.decompress(z).flatten(1, 2), made.decompress(made(x)))


@pytest.mark.parametrize("init", ["pool", "pca", "linear"])
@pytest.mark.parametrize("cast", [None, torch.bfloat16])
def test_half_precision_tokens_come_back_in_their_own_type(init, cast):
    made = compressor(3, small_encoder(), init)
    x = tokens(made).bfloat16()
    exact = made(x.float())
    z = made.to(cast)(x)
    assert z.dtype == torch.bfloat16 and ((z - exact) / made.std_C).abs().max() < 0.1
    assert made.decompress(z).dtype == torch.bfloat16


def test_a_maps_mean_is_the_images_distortion():
    made = compressor(3, small_encoder())
    x = tokens(made, 3)
    standard, back = made.standardised(x), made.standardised(made.decompress(made(x)))
    by_hand = (standard - back).square().sum((1, 2)) / standard.square().sum((1, 2))
    torch.testing.assert_close(made.unrecovered(x).mean((1, 2)), by_hand)
    torch.testing.assert_close(made.unrecovered(x[1:2])[0], made.unrecovered(x)[1])


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("name", "clip_vit_l_14_336"),
        ("architecture", "ViT-L-14"),
        ("weights", "sha256:4567"),
        ("layer", -2),
        ("image_size", 224),
        ("patch_size", 16),
        ("width", 1024),
        ("mean", (0.48, 0.46, 0.41)),
        ("std", [0.27, 0.26, 0.28]),
        ("blocks", 24),
        ("grid_size", 16),
    ],
)
def test_another_encoder_is_refused_with_both_values(fact, value):
    made = compressor(3)
    made.check_encoder(**asdict(made.encoder), grid_size=24)
    with pytest.raises(EncoderMismatch) as caught:
        made.check_encoder(**{**asdict(made.encoder), fact: value})
    ours = getattr(made.encoder, fact)
    assert [m.split(":")[0] for m in caught.value.mistakes] == [fact]
    assert repr(ours) in str(caught.value) and repr(value) in str(caught.value)


def test_every_fact_that_differs_is_named_and_an_unknown_one_is_refused():
    with pytest.raises(EncoderMismatch) as caught:
        compressor(3).check_encoder(layer=-2, width=1024, patch_size=14)
    assert len(caught.value.mistakes) == 2
    with pytest.raises(RequestError, match="depth: no fact of an encoder"):
        compressor(3).check_encoder(depth=12)


def test_a_layer_counted_from_the_front_is_the_same_layer():
    compressor(3).check_encoder(layer=9)  # of 12 blocks
    with pytest.raises(EncoderMismatch, match="-3.*10"):
        compressor(3).check_encoder(layer=10)
    unknown = compressor(3, {**ENCODER, "blocks": None})
    unknown.check_encoder(layer=-3)
    with pytest.raises(EncoderMismatch):
        unknown.check_encoder(layer=9)


@pytest.mark.parametrize("shape", [(2, 35, 8), (2, 36, 16), (2, 6, 8), (36, 8), (2, 5, 5, 8), (2, 36, 6, 6, 8)])
def test_another_number_of_tokens_or_channels_is_refused_with_both_values(shape):
    with pytest.raises(EncoderMismatch) as caught:
        compressor(3, small_encoder())(torch.zeros(shape))
    assert str(shape) in str(caught.value) and "(B, 36, 8)" in str(caught.value)
    with pytest.raises(EncoderMismatch, match=re.escape("(B, 9, 8)")):
        compressor(3, small_encoder()).decompress(torch.zeros(2, 36, 8))


@pytest.mark.parametrize("name", ["pool_conv", "pca_attention"])
def test_an_export_written_by_the_version_before_gives_what_it_gave_then(name):
    folder = REPOSITORY / "tests" / "export" / "written_by_0.1.0" / name
    loaded, expected = toconv.load(folder), load_file(folder / "expected.safetensors")
    compressed = loaded(expected["tokens"])
    torch.testing.assert_close(compressed, expected["compressed"])
    torch.testing.assert_close(loaded.decompress(compressed), expected["restored"])
    written = json.loads((folder / "config.json").read_text())["results"]["validation"]
    assert loaded.config["results"]["validation"]["embedding_agreement"] == written["use"]
    card = str(loaded.generate_model_card())
    assert "| embedding_agreement |" in card and "- `embedding_agreement`: " in card and f"| {written['use']} |" in card
    assert not re.search(r"`use`|\| use \|", card)


@pytest.fixture
def folder(tmp_path):
    compressor(3, small_encoder()).save_pretrained(tmp_path)
    return tmp_path


def changed_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_flipped_byte_is_refused(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="model.safetensors: sha256 is .* config.json says"):
        toconv.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        toconv.load(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "has format 2; this version of toconv reads 1"),
        ({"library": None}, "not the config of"),
        ({"encoder": None}, "not a config that this version"),
        ({"k": "3"}, "not a config that this version"),
        ({"compressor": {"init": "pool"}}, "not a config that this version"),
        ({"k": 2}, "does not hold the tensors"),
        ({"compressor": {"init": "pca", "width": 8, "blocks": 1}}, "missing or unknown: compressor.code"),
        ({"encoder": {**small_encoder(), "width": 16}}, "does not hold the tensors"),
    ],
)
def test_a_foreign_or_altered_config_is_refused(folder, changes, said):
    changed_config(folder, **changes)
    with pytest.raises(CheckpointError, match=said) as caught:
        toconv.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_config_that_is_no_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="config.json: not"):
        toconv.load(folder)


def test_results_travel_with_the_very_weights_that_were_measured(tmp_path):
    made = compressor(
        3, small_encoder(), results={"validation": {"distortion": 0.25}, "test": {}, "finalists": None, "baselines": {}}
    )
    made.save_pretrained(tmp_path / "a")
    again = toconv.load(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert "0.25" in (tmp_path / "b" / "README.md").read_text()
    assert (tmp_path / "a" / "config.json").read_text() == (tmp_path / "b" / "config.json").read_text()
    again.compressor.branch[0].bias.data += 1
    again.save_pretrained(tmp_path / "c")
    assert toconv.load(tmp_path / "c").config["results"] is None
    assert "None are recorded for these weights" in (tmp_path / "c" / "README.md").read_text()


class Hub(SimpleHTTPRequestHandler):
    """Serves a folder's files as the Hub resolves them."""

    def send_head(self):
        _, owner, name, _, revision, file = self.path.split("/")
        path = f"{self.directory}/{file}"
        if (owner, name, revision) != ("someone", "k3", "main") or not os.path.exists(path):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return None
        content = open(path, "rb")
        self.send_response(200)
        for key, value in (
            ("X-Repo-Commit", "a" * 40),
            ("ETag", f'"{file}"'),
            ("Content-Length", str(os.path.getsize(path))),
        ):
            self.send_header(key, value)
        self.end_headers()
        return content

    def log_message(self, *_):
        pass


def in_process_of_its_own(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"], **environment},
    )


@pytest.mark.slow
def test_a_name_on_the_hub_is_fetched_once_and_a_name_that_is_not_there_is_told(folder, tmp_path_factory):
    cache, x = str(tmp_path_factory.mktemp("cache")), tokens(compressor(3, small_encoder()))
    code = (
        "import toconv, torch; m = toconv.load('someone/k3');"
        f"print(m(torch.tensor({x.tolist()})).double().sum().item())"
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_CACHE": cache, "HF_HUB_DISABLE_XET": "1"}
    done = in_process_of_its_own(code, **hub)
    missing = in_process_of_its_own("import toconv; toconv.load('someone/else')", **hub)
    server.shutdown()
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(toconv.load(folder)(x).double().sum().item())
    assert "CheckpointError: someone/else: no such folder, and no compressor of that name on the Hub" in missing.stderr
    offline = in_process_of_its_own(code, HF_HUB_CACHE=cache, HF_HUB_OFFLINE="1")
    assert offline.stdout == done.stdout


@pytest.mark.parametrize("name", ["outputs/nowhere/recommended/k6", "nowhere"])
def test_a_folder_that_is_not_there_is_told(name):
    with pytest.raises(CheckpointError, match=f"{name}: no such folder"):
        toconv.load(name, local_files_only=True)


def test_importing_toconv_imports_no_torch():
    done = in_process_of_its_own("import sys, toconv; print('torch' in sys.modules, toconv.load.__name__)")
    assert done.stdout.split() == ["False", "load"]


def runtime_distributions():
    """What `pip install .` brings: toconv, the dependencies in pyproject.toml and theirs, names normalised."""
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found, waiting = {"toconv"}, [Requirement(text) for text in project["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (
            requirement.marker
            and not any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ):
            continue
        found.add(name)
        waiting += [Requirement(text) for text in metadata.requires(name) or []]
    return project["dependencies"], found


REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.slow
def test_loading_and_compressing_needs_the_runtime_dependencies_alone(folder):
    _, allowed = runtime_distributions()
    refused = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & allowed
    }
    assert {
        "ray",
        "optuna",
        "mlflow",
        "hydra",
        "omegaconf",
        "open_clip",
        "timm",
        "torchvision",
        "sklearn",
        "scipy",
        "matplotlib",
        "rich",
    } <= refused and {"torch", "safetensors", "filelock", "pydantic", "numpy"} & refused == set()
    x = tokens(compressor(3, small_encoder()))
    done = in_process_of_its_own(
        REFUSE.format(refused=refused)
        + (
            "import toconv, torch\n"
            f"m = toconv.load({str(folder)!r}); x = torch.tensor({x.tolist()})\n"
            f"m.check_encoder(name='vit_s_14_336')\n"
            "print(m.decompress(m(x)).tolist())\n"
        )
    )
    assert done.returncode == 0, done.stderr
    made = toconv.load(folder)
    assert torch.equal(torch.tensor(json.loads(done.stdout)), made.decompress(made(x)))


def test_the_sweep_is_tested_with_each_runtime_dependency_within_its_range():
    direct, _ = runtime_distributions()
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    pinned = {r.name: r.specifier for r in (Requirement(line) for line in lines if not line.startswith("#"))}
    for dependency in map(Requirement, direct):
        (pin,) = pinned[dependency.name]
        assert pin.operator == "==" and pin.version in dependency.specifier


@pytest.mark.slow
def test_the_lines_of_the_documentation_use_a_compressor(tmp_path):
    (block,) = [
        b
        for b in re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "serving.md").read_text(), re.S)
        if "toconv.load(" in b
    ]
    assert len([line for line in block.splitlines() if line]) == 5
    compressor(6).save_pretrained(tmp_path / "outputs" / "grid_sizes" / "recommended" / "k6")
    done = subprocess.run(
        [sys.executable, "-c", block + "\nprint(compressed.shape, restored.shape)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([8, 36, 384]) torch.Size([8, 576, 384])"
