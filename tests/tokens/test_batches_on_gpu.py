"""Batches as a GPU has them, on a machine that has none: the same values as on a CPU, read into two pinned buffers in
turns. Streams and events are stand-ins that write down what is asked of them; transfers themselves were not run."""

from contextlib import contextmanager

import pytest
import torch

from toconv import config
from toconv.tokens import batches
from toconv.tokens.batches import Batches
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.tokens.stored import bytes_of_image

CPU, SIZE = torch.device("cpu"), 5


class Device:
    """torch.cuda's part: a transfer is done at once, and its event says so to whoever waits."""

    def __init__(self):
        self.told, self.number = [], 0

    def Stream(self, device):
        return "copies"

    def current_stream(self, device):
        device_ = self

        class Current:
            def wait_event(self, event):
                device_.told.append(("used", event.number))

        return Current()

    def Event(self):
        device_, self.number = self, self.number + 1

        class Event:
            number = self.number

            def record(self, stream):
                device_.told.append(("sent", self.number))

            def synchronize(self):
                device_.told.append(("waited for", self.number))

        return Event()

    @contextmanager
    def stream(self, stream):
        yield


@pytest.fixture(params=["fp16", "int8"])
def store(tiny, tmp_path, request):
    settings = config.compose({**tiny, "store.dtype": request.param})
    return TokenStore(prepare_store(settings))


@pytest.fixture
def device(monkeypatch, store):
    found = Device()
    for name in ("Stream", "current_stream", "Event", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(found, name))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    empty = store.empty
    monkeypatch.setattr(store, "empty", lambda images, pinned=False: empty(images))
    return found


def order(store):
    images = torch.arange(store.count("train"))
    return [images[images % 3 == 1], images[:SIZE], images[-2:], images[SIZE : 2 * SIZE]]


def values(found):
    return [None if x is None else x.clone() for x in found]


def test_batches_from_pinned_memory_are_those_of_a_cpu_and_no_buffer_is_filled_while_it_is_sent(store, device):
    on_cpu, on_gpu = (Batches(store, "train", 12, CPU) for _ in range(2))
    asked = order(store)
    expected = [values(found) for found in on_cpu._stored(asked)]
    found = [values(found) for found in on_gpu._prefetched(asked)]
    assert len(found) == len(asked)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    sent = {1: 0, 2: 0}
    for what, number in device.told:
        if what == "sent":
            sent[number] += 1
        elif what == "used":
            assert sent[number], "a batch is used once it was sent"
    waits = [number for what, number in device.told if what == "waited for"]
    assert waits == [1, 2, 1, 2], "each time before a buffer is filled"
    assert [number for what, number in device.told if what == "used"] == [1, 2, 1, 2]


def test_a_split_that_stays_on_a_gpu_is_read_once_and_gives_the_batches_of_a_cpu(store, monkeypatch):
    on_cpu, on_gpu, reads = (*(Batches(store, "train", 12, CPU) for _ in range(2)), [])
    inner = store.read_stored
    monkeypatch.setattr(store, "read_stored", lambda *given: (reads.append(len(given[1])), inner(*given))[1])
    asked = order(store)
    found = [values(found) for _ in range(2) for found in on_gpu._from_gpu(asked)]
    assert reads == [store.count("train")]
    torch.testing.assert_close(found, [values(f) for _ in range(2) for f in on_cpu._stored(asked)], rtol=0, atol=0)


def test_a_split_stays_on_a_gpu_where_it_takes_less_than_its_share_of_the_free_memory(store, monkeypatch):
    size = store.count("train") * bytes_of_image(store.grid_size**2, store.width, store.dtype)
    free = [0]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 2**40))
    for free[0], fits in ((size / batches.HELD_SHARE, False), (size / batches.HELD_SHARE + 8, True)):
        assert Batches(store, "train", 12, CPU)._fits() == fits
