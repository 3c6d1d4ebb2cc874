"""A tiny encoder with weights saved locally, a folder of small photographs, settings for both, and sweeps of these that
tests share."""

import json
import os
import pickle
import secrets
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

import pytest
import torch
from filelock import FileLock
from mlflow import MlflowClient

from tests import properties
from toconv import config
from toconv.tokens.archive import CACHE

# no test depends on whether photographs were fetched on this machine; commands that tests start have it too
os.environ[CACHE] = str(Path(__file__).with_name("nothing_was_fetched"))
properties.profiles.load_profile("check")  # unless --hypothesis-profile names another
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have what runs behind them ignore it

TINY_GRID = 6
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 24, "patch_size": 4, "width": 32, "layers": 3, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all processes of this run of the tests see."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def once(shared):
    """What `make(folder)` returns, made in a folder of that name by the first process that asks."""

    def made(name, make):
        folder, known = shared / name, shared / f"{name}.pickle"
        with FileLock(shared / f"{name}.lock"):
            if not known.exists():
                folder.mkdir()
                known.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(known.read_bytes())

    return made


@pytest.fixture(scope="session")
def tiny_encoder(once) -> dict[str, object]:
    """Overrides that choose a 6×6 CLIP-style encoder of open_clip's, its weights in a local file."""
    return once("encoder", save_encoder)


def save_encoder(folder):
    import open_clip

    architecture = folder / "toconv_tiny.json"
    architecture.write_text(json.dumps(TINY))
    open_clip.add_model_config(architecture)
    torch.manual_seed(0)
    weights = folder / "tiny.pt"
    torch.save(open_clip.create_model("toconv_tiny").state_dict(), weights)
    return {
        "encoder": "clip_vit_l_14_336",
        "encoder.name": "tiny",
        "encoder.architecture": str(architecture),
        "encoder.weights": str(weights),
        "encoder.layer": -2,
        "encoder.image_size": 24,
        "encoder.patch_size": 4,
        "encoder.width": 32,
        "encoder.dtype": "fp32",
        "model.compressor.output_grid_size": 3,
    }


@pytest.fixture(scope="session")
def photographs(once) -> Path:
    """Twelve small pictures, cut from the photographs of scikit-learn, as JPEG, PNG and WebP."""
    return once("photographs", save_photographs)


def save_photographs(folder):
    from PIL import Image
    from sklearn.datasets import load_sample_images

    for number in range(12):
        picture = Image.fromarray(load_sample_images().images[number % 2])
        left, top = 40 * number, 20 * number
        suffix = ("jpg", "png", "webp")[number % 3]
        picture.crop((left, top, left + 120, top + 90)).save(folder / f"{number:02d}.{suffix}")
    return folder


@pytest.fixture
def tiny(tiny_encoder, photographs, tmp_path) -> dict[str, object]:
    """Overrides of a training that takes a second."""
    return {
        **tiny_encoder,
        "data": "folder",
        "data.root": str(photographs),
        "data.crops": 3,
        "data.tokens_dir": str(tmp_path / "tokens"),
        "model.compressor.width": 8,
        "model.decoder.width": 8,
        "model.critic.width": 8,
        "training.epochs": 3,
        "training.batch_size": 8,
        "training.n_critic": 2,
        "hardware.device": "cpu",
        "hardware.mixed_precision": False,
        "hardware.threads": 1,
        "experiment.checkpoint_dir": str(tmp_path / "checkpoints"),
        "experiment.tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }


@pytest.fixture
def settings(tiny):
    return config.compose(tiny)


def pytest_collection_modifyitems(items):
    """What asks for a sweep is slow. The longest files begin first, so that processes side by side end together."""
    for item in items:
        if {"recorded", "finalists", "overrides"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


LONGEST = (  # the second one does without the undisturbed sweep, which the first one makes
    "test_faults_of_disks.py",
    "test_faults_of_clusters.py",
    "test_faults_of_workers.py",
    "test_faults_of_tracking.py",
    "test_sweep.py",
    "test_faults.py",
    "test_recommended.py",
    "test_mlflow_runs.py",
    "test_display.py",
)


@cache
def empty_mlflow():
    """MLflow's database without a run, which MLflow makes in two seconds."""
    with TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db")
        return Path(folder, "mlflow.db").read_bytes()


def quick(tiny_encoder, photographs, folder):
    """Settings of a sweep whose trials take seconds, with MLflow's database ready in the folder."""
    (folder / "mlflow.db").write_bytes(empty_mlflow())
    return {
        **tiny_encoder,
        "data": "folder",
        "data.root": str(photographs),
        "data.crops": 3,
        "model.compressor.width": 8,
        "model.decoder.width": 8,
        "model.critic.width": 8,
        "training.epochs": 3,
        "training.batch_size": 8,
        "hardware.threads": 1,
        "experiment.tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
    }


@pytest.fixture(scope="module")
def overrides(tiny_encoder, photographs, tmp_path_factory, shared):
    """A folder, and settings of sweeps that read the same tokens."""
    folder = tmp_path_factory.mktemp("sweep")
    return folder, {**quick(tiny_encoder, photographs, folder), "data.tokens_dir": str(shared / "tokens")}


@dataclass(frozen=True)
class Recorded:
    """A sweep that ended. Tests of several processes read it: what starts it again, changes it or copies it holds
    `lock`."""

    folder: Path
    file: Path
    done: CompletedProcess

    @property
    def root(self):
        return self.folder / "outputs" / "tiny"

    @property
    def lock(self):
        return FileLock(self.folder / "again.lock")

    @property
    def uri(self):
        return f"sqlite:///{self.folder / 'mlflow.db'}"


@pytest.fixture(scope="session")
def recorded(tiny_encoder, photographs, once):
    """A sweep with finalists, recorded in MLflow and W&B with what its machine did."""
    from tests.running import run, write_sweep

    def make(folder):
        file = write_sweep(folder, quick(tiny_encoder, photographs, folder), finalists={"seeds": 1})
        done = run(
            folder,
            file,
            "experiment.system_metrics=true",
            "experiment.use_wandb=true",
            "experiment.wandb_project=photographs",
            WANDB_MODE="offline",
            FORCE_COLOR="1",
            COLUMNS="60",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Recorded(folder, file, done)

    return once("recorded", make)


@pytest.fixture(scope="session")
def finalists(tiny_encoder, photographs, shared, once):
    """A sweep with finalists that ended."""
    from tests.running import run, write_sweep

    def make(folder):
        settings = {**quick(tiny_encoder, photographs, folder), "data.tokens_dir": str(shared / "tokens")}
        file = write_sweep(folder, settings, finalists={"seeds": 2}, trials=4)
        file.write_text("# Which k is <enough>?\n" + file.read_text())
        done = run(folder, file)
        assert done.returncode == 0, done.stdout + done.stderr
        return Recorded(folder, file, done)

    return once("finalists", make)


@pytest.fixture(scope="session")
def s3_server():
    """The address of a server of S3's interface."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A bucket of its own for each test, with the login of the environment."""
    import boto3

    from tests.object_stores import S3

    login = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**login, "AWS_ENDPOINT_URL": s3_server, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    found = S3(f"s3://bucket-{secrets.token_hex(8)}/some/prefix", boto3.client("s3", endpoint_url=s3_server))
    found.make_bucket()
    return found
