"""Checkpoints, exports and weights of foreign origin, damaged at random and made to harm: each is read as what it was,
or refused by an error of ours, and nothing of it runs or takes memory first."""

import io
import json
import os
import pickle
import random
import shutil
import zipfile
from hashlib import sha256

import numpy as np
import onnx
import pytest
import torch

from benchmarks.synthetic import synthetic_store
from tests.compressors import compressor, small_encoder, tokens
from tests.properties import any_input_is_taken_or_refused
from toconv import checkpoint
from toconv.errors import CheckpointError, EncoderError
from toconv.export.module import CONFIG_NAME, SAFETENSORS_SINGLE_FILE, TokenCompressor
from toconv.known_files import forget
from toconv.tokens.manifest import SPLITS
from toconv.tokens.onnx_weights import read_geometry, read_timm_state
from toconv.tokens.shards import ENTRY, Shard, entries, intact, write_shard
from toconv.tokens.store import TokenStore
from toconv.tokens.stored import Stored

TIMES = int(os.environ.get("TOCONV_FUZZ", 300))  # of each kind of file; docs/security.md says of how many it was tried
STATE = {"settings": {"a": 1}, "weights": {"w": torch.arange(40.0)}, "epochs": [{"epoch": 1}]}


def damaged(content, draw):
    """Bytes flipped, cut, swapped, grown."""
    found, at = bytearray(content), draw.randrange(len(content))
    other = draw.randrange(len(content))
    match draw.randrange(5):
        case 0:
            found[at] ^= 1 << draw.randrange(8)
        case 1:
            del found[at:]
        case 2:
            found[at], found[other] = found[other], found[at]
        case 3:
            found[at:at] = draw.randbytes(draw.randrange(1, 50))
        case 4:
            size = draw.randrange(1, 20)
            found[at : at + size] = draw.choice([b"\xff", b"\0", b"9"]) * size
    return bytes(found)


def test_a_damaged_checkpoint_is_the_same_or_refused(tmp_path):
    path, draw = tmp_path / "latest.pt", random.Random(0)
    checkpoint.save(path, STATE)
    content, whole = path.read_bytes(), checkpoint.checksum(STATE)
    for _ in range(TIMES):
        path.write_bytes(damaged(content, draw))
        with any_input_is_taken_or_refused():
            assert checkpoint.checksum(checkpoint.load(path)) == whole
        with any_input_is_taken_or_refused():
            checkpoint.glance(path, ("epochs",))


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    made = compressor(3, small_encoder())
    folder = tmp_path_factory.mktemp("export") / "made"
    made.save_pretrained(folder)
    return made, folder


@pytest.mark.parametrize("name", [CONFIG_NAME, SAFETENSORS_SINGLE_FILE])
@pytest.mark.parametrize("vouched", [False, True])
def test_a_damaged_export_computes_the_same_or_is_refused(export, tmp_path, name, vouched):
    """Also where whoever altered it wrote the checksum of what it is now."""
    made, folder = export
    there = shutil.copytree(folder, tmp_path / "export")
    content, draw, x_BNC = (folder / name).read_bytes(), random.Random(1), tokens(made)
    known = json.loads((folder / CONFIG_NAME).read_text())
    for _ in range(TIMES // 3):
        (there / name).write_bytes(damaged(content, draw))
        if vouched and name == SAFETENSORS_SINGLE_FILE:
            digest = sha256((there / name).read_bytes()).hexdigest()
            (there / CONFIG_NAME).write_text(json.dumps({**known, "sha256": digest}))
        with any_input_is_taken_or_refused():
            found = TokenCompressor.from_pretrained(there)
            same = found.config.get("encoder") == made.config["encoder"] and not vouched
            assert not same or name == CONFIG_NAME or torch.equal(found(x_BNC), made(x_BNC))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("compressor", "blocks", 10**7),
        ("compressor", "width", 10**9),
        ("compressor", "grid_sizes", [10**9]),
        ("decoder", "blocks", 10**7),
        ("encoder", "width", 10**12),
        ("encoder", "image_size", 10**9),
        ("encoder", "patch_size", 0),
        ("encoder", "width", "8"),
        ("compressor", "kind", "os:system"),
        ("compressor", "width", 60_000),
    ],
)
def test_an_export_that_describes_what_nobody_can_hold_is_refused_before_memory_is_taken(
    export, tmp_path, part, key, value
):
    there = shutil.copytree(export[1], tmp_path / "export")
    config = json.loads((there / CONFIG_NAME).read_text())
    config[part][key] = value
    (there / CONFIG_NAME).write_text(json.dumps(config))
    with any_input_is_taken_or_refused(), pytest.raises(CheckpointError):
        TokenCompressor.from_pretrained(there)


def test_weights_that_are_larger_than_what_the_config_describes_are_not_read(export, tmp_path):
    there = shutil.copytree(export[1], tmp_path / "export")
    with (there / SAFETENSORS_SINGLE_FILE).open("r+b") as file:
        file.truncate(2**40)  # of which the disk holds nothing
    with any_input_is_taken_or_refused(), pytest.raises(CheckpointError, match="has 1099511627776 bytes; what config"):
        TokenCompressor.from_pretrained(there)
    (there / CONFIG_NAME).write_text("[" * 2**25)
    with any_input_is_taken_or_refused(), pytest.raises(CheckpointError, match="a config at most"):
        TokenCompressor.from_pretrained(there)


def test_a_header_of_safetensors_that_claims_more_than_the_file_is_refused(export, tmp_path):
    there = shutil.copytree(export[1], tmp_path / "export")
    config = json.loads((there / CONFIG_NAME).read_text())
    for content in (
        (2**62).to_bytes(8, "little") + b"{}",
        (99 * 2**20).to_bytes(8, "little") + b"{}",
        *(_safetensors({"dtype": "F32", "shape": shape, "data_offsets": ends}) for shape, ends in CLAIMS),
    ):
        (there / SAFETENSORS_SINGLE_FILE).write_bytes(content)
        (there / CONFIG_NAME).write_text(json.dumps({**config, "sha256": sha256(content).hexdigest()}))
        with any_input_is_taken_or_refused(), pytest.raises(CheckpointError, match="does not hold the tensors"):
            TokenCompressor.from_pretrained(there)


CLAIMS = [([2**40], [0, 2**42]), ([2**62, 2**62], [0, 4]), ([1], [4, 0]), ([1], [0, 2**63]), ([-1], [0, 4])]


def _safetensors(entry):
    header = json.dumps({"mean_C": entry}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 4


class Harm:
    def __init__(self, call, *given):
        self._reduced = (call, given)

    def __reduce__(self):
        return self._reduced


@pytest.mark.parametrize(
    "harm", [Harm(os.mkdir, "ran"), Harm(bytearray, 10**13), Harm(print, "ran"), Harm(torch.load, "latest.pt")]
)
def test_a_checkpoint_that_names_anything_but_tensors_is_refused_and_runs_nothing(tmp_path, monkeypatch, capsys, harm):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "latest.pt"
    torch.save({"format": checkpoint.FORMAT, "checksum": "0", "state": harm}, path)
    with any_input_is_taken_or_refused(), pytest.raises(CheckpointError, match="which no checkpoint of toconv has"):
        checkpoint.load(path)
    path.write_bytes(pickle.dumps(harm))
    with any_input_is_taken_or_refused(), pytest.raises(CheckpointError, match="not readable"):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists() and "ran" not in capsys.readouterr().out


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    path, stored = tmp_path / "latest.pt", io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, "checksum": "0", "state": torch.zeros(2**24)}, stored)
    with zipfile.ZipFile(stored) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    with pytest.raises(CheckpointError, match="would unpack to 67109.* bytes, has"):
        checkpoint.load(path)


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "latest.pt"
    {"pipe": os.mkfifo, "folder": os.mkdir, "/dev/zero": lambda path: path.symlink_to("/dev/zero")}[kind](path)
    for read in (checkpoint.load, lambda path: checkpoint.glance(path, ())):
        with any_input_is_taken_or_refused(), pytest.raises(CheckpointError, match="must be a file"):
            read(path)


def test_a_damaged_manifest_of_tokens_is_the_same_or_refused(tmp_path):
    store = synthetic_store(tmp_path / "store", 3, 4, grid_size=2, val=1)
    path, draw, indices_I = store.folder / "manifest.json", random.Random(3), torch.arange(3)
    content, whole = path.read_bytes(), store.read("train", indices_I)
    for _ in range(TIMES):
        path.write_bytes(damaged(content, draw))
        with any_input_is_taken_or_refused():
            found = TokenStore(store.folder)
            for split in SPLITS:
                found.read(split, torch.arange(found.count(split)))
                found.class_tokens(split)
                found.boxes(split)
            assert found.count("train") != 3 or found.width != 4 or torch.equal(found.read("train", indices_I), whole)


def test_a_damaged_shard_is_seen_or_is_of_the_same_bytes(tmp_path):
    values, draw = torch.randn(3, 4, 8).half(), random.Random(4)
    entry = write_shard(tmp_path, Shard("train-00000", "train", []), Stored(values), values[:, :1])
    for name in entry["sha256"]:
        content = (tmp_path / name).read_bytes()
        for _ in range(TIMES // 2):
            (tmp_path / name).write_bytes(other := damaged(content, draw))
            forget(tmp_path / name)  # as a look does whose size, time or inode is another
            assert intact(tmp_path, entry) is (other == content)
        (tmp_path / name).write_bytes(content)
    path = tmp_path / f"train-00000{ENTRY}"
    content = path.read_bytes()
    for _ in range(TIMES // 2):
        path.write_bytes(damaged(content, draw))
        with any_input_is_taken_or_refused():
            assert entries(tmp_path, {"shards": {}}) in ({}, {"train-00000": entry})


def _graph():
    names = ["backbone.embeddings.patch_embeddings.projection.weight", "backbone.encoder.layer.0.norm1.weight"]
    tensors = [onnx.numpy_helper.from_array(np.ones((4, 3, 2, 2), np.float32), name) for name in names]
    return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors))


def test_a_damaged_onnx_file_is_read_or_refused(tmp_path):
    path, content, draw = tmp_path / "weights.onnx", _graph().SerializeToString(), random.Random(2)
    for _ in range(TIMES):
        path.write_bytes(damaged(content, draw))
        for read in (read_geometry, lambda path: read_timm_state(path, 6)):
            with any_input_is_taken_or_refused():
                read(path)


def test_an_onnx_file_reads_no_other_file(tmp_path):
    (tmp_path / "secret").write_bytes(b"x" * 4)
    model = _graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    path = tmp_path / "weights.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EncoderError, match="not the ONNX graph that toconv knows"):
        read_timm_state(path, 6)
