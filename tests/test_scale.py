"""docs/scale.md: its tables are those of docs/scale.py, which computes what a hand does."""

import pytest

from docs import scale
from docs.scale import Assumed, Measured, Work, encoding, needed, step_seconds, supplies

OF = Work(encoder_flops=1e12, stored=1e6, read=1e6, batch=100, step_flops={6: 1e12}, pictures=1000, epochs=2)
ON = Measured(10e9, step_share=0.5, decode=8e-3, start=20, trial=0.5, sha256=1e9)
AT = Assumed(flops=1e15, share=0.5, memory=1e9, local_disk=4e9, network=8e9, shared_disk=10e9, picture=1e5, workers=2)


def test_encoding_is_the_slowest_of_what_is_done_side_by_side():
    """A picture: 2 ms in the encoder, 4 ms from two decoders; 1 ms to hash, and with two machines at a disk of 10 GB/s,
    5/8 GB/s for each GPU, 1.6 ms to write, which two writers do in 1.6 ms; with eight machines 6.4 ms."""
    found = encoding(1000, 16, OF, ON, AT)
    assert found.hashing == pytest.approx(0.05)
    assert list(found.parts.values()) == pytest.approx([2 / 16, 4 / 16, 1.6 / 16])
    assert found.longest == "decoding" and found.whole == pytest.approx(0.05 + 4 / 16)
    assert encoding(1000, 64, OF, ON, AT).parts["writing"] == pytest.approx(6.4 / 64)
    assert encoding(1000, 1, OF, ON, AT).parts["writing"] == pytest.approx((1 + 1 / 8) / 2)


def test_a_step_takes_its_products_over_their_share_and_reads_its_batch_meanwhile():
    assert step_seconds(6, OF, ON, AT) == pytest.approx(4e-3)
    assert needed(6, OF, ON, AT) == pytest.approx(25e9)


def test_what_lies_in_memory_is_read_at_memory_s_rate_and_a_disk_is_shared():
    assert supplies(1000, 1, OF, ON, AT) == {"memory": 10e9, "own disk": 4e9, "shared disk": 8e9}
    assert supplies(1001, 8, OF, ON, AT) == {"own disk": 0.5e9, "shared disk": 1e9}
    assert supplies(1001, 16, OF, ON, AT) == {"own disk": 0.5e9, "shared disk": 0.625e9}


def test_the_encoder_s_operations_are_those_of_its_blocks_up_to_the_layer():
    """Linear layers of a block take 24·N·C² operations, attention 4·N²·C (arXiv 2010.11929), N with the class token."""
    of = scale.of_the_sweep()
    n, c, patch = 24**2 + 1, 1024, 14**2 * 3
    assert of.encoder_flops == pytest.approx(23 * (24 * n * c**2 + 4 * n**2 * c) + 2 * (n - 1) * patch * c)
    assert (of.stored, of.read) == (2 * n * c, 2 * (n - 1) * c)
    of = scale.of_the_sweep("int8")
    assert (of.stored, of.read) == ((n - 1) * c + 2 * 4 * c + 2 * c, (n - 1) * c + 2 * 4 * c)


def test_the_page_is_as_its_script_writes_it():
    assert scale.PAGE.read_text() == scale.replaced(scale.PAGE.read_text()), "run: python docs/scale.py"
