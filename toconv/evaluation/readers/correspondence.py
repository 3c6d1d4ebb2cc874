"""Correspondence: whether a place of one crop of a picture finds itself in another, by its restored token alone."""

# Q pairs of crops, N = g*g places, C channels

import torch
import torch.nn.functional as F

from toconv.evaluation.readers.references import crops_together, images_read
from toconv.tokens.crop_boxes import Box
from toconv.tokens.store import TokenStore

MOST_PAIRS = 32  # of a split: the first two crops of evenly spaced pictures
WITHIN = 1.0  # places along each side, that what is found may be away from where the place is


class Correspondence:
    """The first two crops of each picture that is looked at. A place of the first counts where its centre lies in the
    second; it asks for the place there whose token has the largest cosine with its own."""

    def __init__(self, store: TokenStore, split: str, device: torch.device) -> None:
        """Raises LookupError where the store does not know its crops, or has one of each picture."""
        read_I, crops = images_read(store, split), crops_together(store, split)
        if crops < 2 or (boxes := store.boxes(split)) is None:
            raise LookupError
        pictures = len(read_I) // crops
        kept = min(MOST_PAIRS, pictures)
        first_Q = torch.arange(kept) * pictures // kept * crops  # of the images that are read
        self.among_S = torch.stack([first_Q, first_Q + 1], 1).flatten()
        pairs = [(boxes[i], boxes[i + 1]) for i in read_I[first_Q].tolist()]
        places = [there(a, b, store.grid_size) for a, b in pairs]
        self._row_QN, self._column_QN = (torch.stack([p[axis] for p in places]).to(device) for axis in (0, 1))
        self._side = store.grid_size

    def of(self, restored_SNC: torch.Tensor) -> dict[str, torch.Tensor]:
        """(S, 2): of a pair's first crop, how many of its places found themselves within WITHIN, and how many are in
        the second at all; zeros for the second."""
        one_QNC, other_QNC = F.normalize(restored_SNC.float(), dim=-1).unflatten(0, (-1, 2)).unbind(1)
        found_QN = (one_QNC @ other_QNC.mT).argmax(-1)
        row_QN, column_QN = found_QN // self._side, found_QN % self._side
        is_there_QN = self._row_QN.isfinite()
        hit_QN = ((row_QN - self._row_QN).abs() <= WITHIN) & ((column_QN - self._column_QN).abs() <= WITHIN)
        counts_Q2 = torch.stack([(hit_QN & is_there_QN).sum(1), is_there_QN.sum(1)], 1).float()
        return {"correspondence_restored": torch.stack([counts_Q2, torch.zeros_like(counts_Q2)], 1).flatten(0, 1)}


def there(a: Box, b: Box, g: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) rows and columns of crop `b`'s g×g grid, in fractions, at which the places of crop `a`'s grid lie; NaN for
    those that lie outside."""
    centre_g = (torch.arange(g, dtype=torch.float64) + 0.5) / g
    down_N, across_N = centre_g.repeat_interleave(g), centre_g.repeat(g)
    y_N, x_N = a.top + down_N * a.height, a.left + (1 - across_N if a.flip else across_N) * a.width
    down_N, across_N = (y_N - b.top) / b.height, (x_N - b.left) / b.width
    across_N = 1 - across_N if b.flip else across_N
    outside_N = (down_N < 0) | (down_N >= 1) | (across_N < 0) | (across_N >= 1)
    row_N, column_N = down_N * g - 0.5, across_N * g - 0.5
    return row_N.masked_fill(outside_N, torch.nan), column_N.masked_fill(outside_N, torch.nan)
