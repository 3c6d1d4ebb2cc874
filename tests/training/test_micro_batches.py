"""What a training that ran out of memory records, and how it goes on."""

import pytest
import torch

from tests.training.test_gradients import refuse_above
from toconv import checkpoint, config
from toconv.evaluation.metrics import MICRO_BATCH
from toconv.paths import TrialPaths
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training
from toconv.training.micro_batches import MicroBatches
from toconv.training.resumable import ResumableTraining


@pytest.fixture
def make(tiny, shared):
    settings = config.compose({**tiny, "data.tokens_dir": str(shared / "tokens"), "training.epochs": 2})

    def training(rows=None, **changes):
        asked = settings.model_copy(update={"training": settings.training.model_copy(update=changes)})
        made = Training(asked, TokenStore(prepare_store(settings)), torch.device("cpu"))
        if rows:
            refuse_above(made.decoder, rows)
        return made

    return training


def numbers(epochs):
    return [epoch.metrics for epoch in epochs]


def test_each_epoch_says_how_many_images_there_were_at_a_time_and_measures_with_no_more(make):
    whole, halved = make(), make(rows=2)
    for ours, theirs in zip(halved.epochs(), whole.epochs(), strict=True):
        assert ours.metrics.pop(MICRO_BATCH) == 2 and MICRO_BATCH not in theirs.metrics
        assert ours.metrics.keys() == theirs.metrics.keys()
        assert ours.metrics["distortion"] == pytest.approx(theirs.metrics["distortion"], rel=1e-3)
    sizes = {t: {len(x) for x in t.evaluation.held_out["val"]} for t in (whole, halved)}
    assert max(sizes[halved]) == 2 < max(sizes[whole])


def test_a_resumed_training_goes_on_with_as_many_and_ends_with_the_same_bits(make, tmp_path):
    whole, paths = numbers(make(rows=2).epochs()), TrialPaths(tmp_path)
    next(ResumableTraining.adopt(make(rows=2), paths).epochs())
    again = ResumableTraining.adopt(make(), paths)
    assert again.training.micro_batches.size == 2
    assert numbers(again.epochs()) == whole[1:]


def test_a_size_that_is_asked_for_counts_for_a_resumed_training_too(make, tmp_path):
    next(ResumableTraining.adopt(make(rows=2), TrialPaths(tmp_path)).epochs())
    sizes = {asked: ResumableTraining.adopt(make(micro_batch=asked), TrialPaths(tmp_path)) for asked in (None, 4)}
    assert {asked: again.training.micro_batches.size for asked, again in sizes.items()} == {None: 8, 4: 4}


def test_a_checkpoint_from_before_begins_with_the_whole_batch(make, tmp_path):
    paths = TrialPaths(tmp_path)
    next(ResumableTraining.adopt(make(), paths).epochs())
    state = checkpoint.load(paths.latest)
    del state[MICRO_BATCH], state["settings"]["training"]["micro_batch"]
    checkpoint.save(paths.latest, state)
    assert ResumableTraining.adopt(make(), paths).training.micro_batches.size == 8


def test_a_batch_is_cut_into_as_few_parts_as_its_size_allows():
    sizes = MicroBatches(3, 8)
    assert [sizes.count(images) for images in (1, 3, 4, 8)] == [1, 1, 2, 3]
    assert [part.stop - part.start for part in sizes.parts(8)] == [3, 3, 2]
    assert MicroBatches(32, 8).size == MicroBatches(None, 8).size == MicroBatches("auto", 8).size == 8
    assert MicroBatches(3, 8).divides and not MicroBatches(32, 8).divides
