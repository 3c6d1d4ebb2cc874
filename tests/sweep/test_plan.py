"""A dry run refuses what a start would refuse in its first minute, and leaves nothing behind."""

import os
import shutil
from functools import partial

import pytest
import torch
from filelock import FileLock

from tests.repository import REPOSITORY
from tests.running import write_sweep
from toconv import checkpoint
from toconv.config import compose
from toconv.errors import DamagedFile, DataError, EncoderError, MachineryError, RequestError, ToconvError
from toconv.paths import SweepPaths
from toconv.sweep import plan
from toconv.sweep.baselines import baseline_records
from toconv.sweep.encoding_tasks import before_encoding
from toconv.sweep.file import load_sweep
from toconv.sweep.plan import matched
from toconv.sweep.request import record_request
from toconv.tokens import listing, near_duplicates, readable
from toconv.tokens.encoding import prepare_store, store_folder
from toconv.tokens.images import list_splits
from toconv.tokens.room import estimated_bytes
from toconv.tokens.smaller_picture import encode_smaller
from toconv.tokens.smaller_store import smaller_folder
from toconv.tokens.store import TokenStore


@pytest.fixture
def dry_run(tiny, tmp_path, monkeypatch):
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plan, "gemm_rate", lambda *_: 1e9)
    file, paths = (
        write_sweep(tmp_path, {**tiny, "experiment.tracking_uri": None}),
        SweepPaths(tmp_path / "outputs/tiny"),
    )

    def run(*texts):
        before = sorted(os.walk(tmp_path))
        try:
            plan.show_plan(load_sweep(file, list(texts)), paths)
        finally:
            assert sorted(os.walk(tmp_path)) == before

    run.paths, run.file = paths, file
    return run


def test_a_request_that_can_be_started_is_planned(dry_run, capsys):
    dry_run()
    told = capsys.readouterr().out
    assert told.startswith("MLflow: sqlite:///") and "(the default)" in told and "4 trials in 2 cell(s)" in told


def test_it_tells_what_each_family_has_to_be_to_cost_what_conv_does(dry_run, capsys):
    kinds = "search.model.compressor.kind={choices: [conv, resampler, abstractor]}"
    dry_run(kinds, "model.compressor.match=parameters", "model.compressor.width=64")
    told = capsys.readouterr().out.replace("\n", " ")
    assert told.count("of the parameters of kind=conv with width 64") == 6  # three kinds at two k
    assert "2x2 tokens: kind=conv has width 64, +0.00 %" in told and "3x3 tokens: kind=resampler has width" in told
    with pytest.raises(RequestError, match="no width of kind=abstractor comes within 10%"):
        dry_run(kinds, "model.compressor.match=parameters", "model.compressor.width=32")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("encoder.layer=3", "encoder.layer=3: .* has 3 blocks; -3 <= layer < 3 must hold"),
        ("encoder.layer=-4", "has 3 blocks"),
        ("encoder.weights=nowhere.pt", "neither a file nor one of open_clip's tags"),
        ("encoder.architecture=nowhere.json", "no such open_clip model config"),
        ("encoder.architecture=ViT-Z-99", "neither a model of open_clip's nor a model config"),
        ("encoder.architecture=RN50", "no vision transformer"),
        ("encoder.width=64", "encoder.width=64: .* has 32"),
        ("encoder.image_size=48", "encoder.image_size=48: .* has 24"),
        ("data.root=/nowhere", "/nowhere: no such folder"),
        ("hardware.device=cuda", "this machine has"),
        ("resources.cpu=5000", "a trial asks for cpu=5000"),
        ("resources.accelerator=H100", "accelerator=H100: the cluster has none that Ray has a name for"),
        ("resources.gpu=1.5", "must be a whole number, or a part of one"),
        ("resources.cpu=.inf", "resources.cpu"),
        ("resources.cpu=0.00001", "resources.cpu"),
        ("budget.hours=.nan", "budget.hours"),
        ("finalists.seeds=1000000000000", "finalists.seeds"),
        ("finalists={seeds: 5}", None),
        ("trials=1000000000000", "trials"),
        ("search.loss.lambda_gp={low: 1, high: 9, step: .inf}", "step"),
        ("experiment.tracking_uri=foo://x", "foo:// is of no kind"),
        ("model.decoder.width=65536", "its networks have .* parameters, which take .* GB while they are trained"),
        ("cluster.listen=maybe", "cluster.listen"),
    ],
)
def test_it_refuses_what_a_start_would_refuse(dry_run, text, said):
    if said is None:
        dry_run(text)
        return
    if ("hardware" in text or "H100" in text) and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(RequestError, match=said):
        dry_run(text)


@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_many_pictures_that_are_not_known_are_left_to_the_start(dry_run, capsys, monkeypatch, unreadable):
    base = load_sweep(dry_run.file, [f"data.unreadable={unreadable}"]).base
    for found in (near_duplicates._found, readable._found):
        monkeypatch.setitem(found, base.data.max_pixels, {})
    monkeypatch.setattr(plan, "check_pictures", lambda *_: None)  # the first of them
    monkeypatch.setattr(plan, "MOST_DECODED", 11)
    listing.say_once.cache_clear()
    with monkeypatch.context() as blind:
        blind.setattr(near_duplicates, "thumbnail", None)
        blind.setattr(readable, "decode", None)
        dry_run(f"data.unreadable={unreadable}")
    told = capsys.readouterr().out
    assert "near-duplicates: 12 pictures are not known yet; the start looks for them among these" in told
    assert ("which of 12 pictures can be read is looked at when the sweep starts" in told) == (unreadable == "skip")
    listing.say_once.cache_clear()
    list_splits(base.data)  # as the start does
    dry_run(f"data.unreadable={unreadable}")
    assert "not known yet" not in capsys.readouterr().out


def test_a_sweep_that_has_begun_is_held_against_the_splits_that_a_start_would_have(dry_run, capsys, monkeypatch):
    asked = load_sweep(dry_run.file, [])
    record_request(asked, dry_run.paths, store_folder(asked.base, list_splits(asked.base.data)).name, {})
    monkeypatch.setitem(near_duplicates._found, asked.base.data.max_pixels, {})
    monkeypatch.setattr(plan, "MOST_DECODED", 11)
    listing.say_once.cache_clear()
    dry_run()
    assert "not known yet" not in capsys.readouterr().out


@pytest.fixture
def an_h100(monkeypatch):
    """NVIDIA's library as Ray asks it for what lies in this machine."""
    nvml = "ray._private.thirdparty.pynvml.nvml"
    monkeypatch.setattr(f"{nvml}Init", lambda: None)
    monkeypatch.setattr(f"{nvml}Shutdown", lambda: None)
    monkeypatch.setattr(f"{nvml}DeviceGetCount", lambda: 1)
    monkeypatch.setattr(f"{nvml}DeviceGetHandleByIndex", lambda number: number)
    monkeypatch.setattr(f"{nvml}DeviceGetName", lambda handle: "NVIDIA H100 80GB HBM3")


def test_a_kind_of_gpu_is_looked_for_by_the_name_that_ray_has_for_it(dry_run, an_h100):
    dry_run("resources.accelerator=H100")
    with pytest.raises(RequestError, match="accelerator=A100: the cluster has H100$"):
        dry_run("resources.accelerator=A100")
    with pytest.raises(RequestError, match="accelerator=h100: the cluster has H100; did you mean H100?"):
        dry_run("resources.accelerator=h100")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_it_says_that_a_gpu_counts_as_0_as_a_start_does(dry_run, capsys):
    dry_run("resources.gpu=0.5")
    assert "no GPU on this machine: gpu: 0.5 counts as 0" in capsys.readouterr().out
    dry_run("resources.gpu=0")
    assert "no GPU" not in capsys.readouterr().out


def test_of_a_cluster_to_join_it_says_that_the_start_looks_at_resources(dry_run, capsys, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://user:pass@head:10001")
    plan.check_resources(load_sweep(dry_run.file, ["resources.cpu=5000", "resources.accelerator=H100"]))
    told = capsys.readouterr().out
    assert "whether the Ray cluster of RAY_ADDRESS=" in told and "has them is looked at when the sweep starts" in told
    assert "@head:10001" in told and "pass" not in told


@pytest.mark.parametrize("kind", ["text", "empty", "half", "others", "derived", "folder", "missing"])
def test_resume_is_refused_whatever_it_names(dry_run, tmp_path, kind):
    path = tmp_path / "x.pt"
    write_what(path, kind)
    with pytest.raises(RequestError, match=f"resume={path}: is for train.py"):
        dry_run(f"resume={path}")


def write_what(path, kind):
    if kind in {"text", "empty"}:
        path.write_text("no checkpoint" if kind == "text" else "")
    elif kind == "folder":
        path.mkdir()
    elif kind == "others":
        torch.save({"state_dict": {}}, path)
    elif kind in {"half", "derived"}:
        checkpoint.save(path, {"matrix": torch.eye(64)})
        if kind == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", ["text", "empty", "half", "folder"])
def test_weights_that_cannot_be_read_are_refused(dry_run, tmp_path, kind):
    path = tmp_path / "weights.pt"
    write_what(path, kind)
    with pytest.raises(EncoderError, match="encoder.weights="):
        dry_run(f"encoder.weights={path}")


def test_seeds_of_finalists_end_where_seeds_end(dry_run):
    with pytest.raises(RequestError, match="finalists.seeds=3: the last of them trains with training.seed=4294967298"):
        dry_run("training.seed=4294967295", "finalists={seeds: 3}")


def test_a_range_of_billions_is_planned_without_being_counted(dry_run, capsys):
    dry_run("search.training.seed={low: 0, high: 4294967295, type: int}")
    with pytest.raises(RequestError, match="grid needs choices or a step, and at most"):
        dry_run("search={training.seed: {low: 0, high: 4294967295, type: int}}", "sampler=grid")


def test_pictures_that_cannot_be_read_are_named_before_anything_is_encoded(dry_run):
    with pytest.raises(DataError, match="pixels, data.max_pixels=9") as refused:
        dry_run("data.max_pixels=9")
    assert len(refused.value.mistakes) == 12 and not list(dry_run.paths.root.parent.glob("tokens/*"))


def test_what_has_changed_since_a_start_is_told(dry_run, capsys):
    asked = load_sweep(dry_run.file, ["trials=1"])
    record_request(asked, dry_run.paths, store_folder(asked.base, list_splits(asked.base.data)).name, {})
    dry_run("training.n_critic=2")
    told = " ".join(capsys.readouterr().out.split())
    assert "what has changed since the last start" in told
    assert "training.n_critic 1 to 3 2 fixed in the trials to come" in told and "trials 1 2" in told


def test_an_earlier_study_that_is_none_is_refused(dry_run):
    with pytest.raises(RequestError, match="learn_from=nothing: .*holds no sweep"):
        dry_run("learn_from=[nothing]")


def test_a_disk_without_room_is_told_before_work(dry_run, monkeypatch):
    monkeypatch.setattr("toconv.tokens.room.free_bytes", lambda folder: 1000)
    with pytest.raises(MachineryError, match="kB of tokens to write, but 1.00 kB are free"):
        dry_run("baselines=false")
    monkeypatch.setattr(plan, "free_bytes", lambda folder: 1000)
    with pytest.raises(MachineryError, match="a trial's checkpoints take"):
        dry_run()


@pytest.mark.parametrize(("dtype", "bytes_each"), [("fp16", 2), ("bf16", 2), ("int8", 1)])
def test_the_disk_that_most_of_a_million_images_take_is_told(dry_run, room, capsys, dtype, bytes_each):
    """12 pictures in 65,536 crops each; of an image 36 tokens and a class token, with int8's scale and offset."""
    room[0] = 2**50
    dry_run("data.crops=65536", f"store.dtype={dtype}", "baselines=false")
    scales = 2 * 4 * 32 if dtype == "int8" else 0
    size = 12 * 65_536 * (36 * 32 * bytes_each + 32 * 2 + scales)
    told = " ".join(capsys.readouterr().out.split())
    assert f"disk: tokens {size / 1e9:.2f} GB in {dtype} (to be encoded first)" in told, told
    room[0] = size - 1
    with pytest.raises(MachineryError, match=f"{size / 1e9:.2f} GB of tokens to write") as refused:
        dry_run("data.crops=65536", f"store.dtype={dtype}", "baselines=false")
    assert ("ask for store.dtype=int8" in str(refused.value)) is (dtype != "int8")


def test_imagenet_at_clips_large_model_takes_one_and_a_half_terabytes():
    base = compose({"encoder": "clip_vit_l_14_336"})
    assert round(estimated_bytes(base, 1_280_000) / 1e9) == round(1.28e6 * (576 + 1) * 1024 * 2 / 1e9) == 1513


BOTH = "kB of tokens and .* kB of smaller pictures' tokens to write, but .* kB are free on its disk"


def bytes_of(base, sizes=None):
    """Of the encoder's own tokens of all images, or of those of smaller pictures at these k."""
    return estimated_bytes(base, sum(map(len, list_splits(base.data).values())) * base.data.crops, sizes)


@pytest.fixture
def room(monkeypatch):
    """[bytes that the disk of the tokens has free]"""
    free = [0]
    monkeypatch.setattr("toconv.tokens.room.free_bytes", lambda folder: free[0])
    return free


def test_a_disk_without_room_for_smaller_pictures_beside_the_tokens_is_told_before_work(dry_run, room):
    base = load_sweep(dry_run.file, []).base
    own, beside = bytes_of(base), bytes_of(base, [2, 3])
    for room[0] in (own, own + beside - 1):
        with pytest.raises(MachineryError, match=BOTH):
            dry_run()
        dry_run("baselines=false")
    room[0] = own + beside
    dry_run()


def test_a_start_refuses_a_disk_without_room_for_smaller_pictures_before_it_encodes(dry_run, room):
    class Reached(Exception):
        pass

    def cluster():
        raise Reached

    def start(*texts):
        asked = load_sweep(dry_run.file, [*texts])
        prepare_store(asked.base, partial(before_encoding, asked, dry_run.paths, cluster, None))

    room[0] = bytes_of(load_sweep(dry_run.file, []).base)
    with pytest.raises(MachineryError, match=BOTH):
        start()
    with pytest.raises(Reached):
        start("baselines=false")


@pytest.mark.slow
def test_smaller_pictures_that_are_encoded_or_measured_need_no_room(dry_run, room):
    sweep = load_sweep(dry_run.file, [])
    room[0] = 2**40
    store = prepare_store(sweep.base)
    encode_smaller(sweep.base, TokenStore(store), [2])
    room[0] = bytes_of(sweep.base, [3])
    dry_run()
    room[0] -= 1
    with pytest.raises(MachineryError, match=r"tokens: .* kB of smaller pictures' tokens to write"):
        dry_run()
    room[0] = 2**40
    baseline_records(sweep, store)
    shutil.rmtree(smaller_folder(store, 3))
    room[0] = 0
    dry_run()


def test_a_folder_of_another_sweep_is_refused_as_a_start_does(dry_run):
    record_request(load_sweep(dry_run.file, []), dry_run.paths, "f00d", {})
    with pytest.raises(RequestError, match="defined otherwise.*fingerprint: was 'f00d'"):
        dry_run()
    dry_run.paths.request.write_text("no: [yaml")
    with pytest.raises(DamagedFile, match="sweep.yaml: not readable as YAML"):
        dry_run()
    shutil.rmtree(dry_run.paths.root)
    dry_run.paths.root.mkdir()
    dry_run.paths.study.write_text("no ledger")
    with pytest.raises(RequestError, match="is no ledger"):
        dry_run()


def test_a_sweep_that_another_process_runs_is_refused(dry_run):
    dry_run.paths.root.mkdir(parents=True)
    with FileLock(dry_run.paths.lock), pytest.raises(RequestError, match="another process runs this sweep"):
        dry_run()


def test_a_cluster_that_is_gone_is_told(dry_run, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ToconvError, match="no Ray cluster answers"):
        dry_run()


def test_conv_and_nested_are_matched_side_by_side():
    sweep = load_sweep(REPOSITORY / "sweeps" / "nested.yaml", ["model.compressor.match=flops"])
    told = "\n".join(matched(sweep))
    assert [told.count(f"tokens: kind={kind} has width") for kind in ("conv", "nested")] == [4, 4]
