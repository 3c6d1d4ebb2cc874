"""Training-free compressors whose tokens are a set: M of an image, in no grid, where its content is.

Each gives the tokens (B, M, C) and what is restored from them (B, N, C). For that a reader needs more than the tokens:
which of them each place became where they are merged, N·log₂M bits an image, or the places of those that are kept,
M·log₂N bits. Similarity is the cosine of standardised tokens: the encoder's keys, which the papers compare, are not in
a token store."""

# B batch, N tokens of an image, M compressed ones, T those of a step, S D the two halves of T, R tokens that remain,
# C channels

from collections.abc import Callable

import torch
import torch.nn.functional as F

from toconv import grid

Coded = tuple[torch.Tensor, torch.Tensor]  # (B, M, C) tokens, (B, N, C) restored
STEPS = 4  # in which ToMe merges where no more than half have to go in each; 1, 12, 24 and 48 lose more at every k
SMALLEST = 1e-9  # squared distance, below which a place is the kept one itself
DOMINANT = 54 / 64  # of VisionZip's tokens: as many as it keeps as they are


class SetCode:
    """Compresses by `code`, and restores what it compressed last."""

    def __init__(self, code: Callable[[torch.Tensor], Coded]) -> None:
        self._code, self._last = code, (torch.empty(0), torch.empty(0))

    def compress(self, x_BNC: torch.Tensor) -> torch.Tensor:
        self._last = self._code(x_BNC)
        return self._last[0]

    def decompress(self, z_BMC: torch.Tensor) -> torch.Tensor:
        """(B, N, C). Raises ValueError for tokens that are not those of the last `compress`: of others it is not known
        what goes beside them."""
        if z_BMC is not self._last[0]:
            raise ValueError("tokens of a set are restored by what goes beside them: compress them first")
        return self._last[1]


def merge_similar(x_BNC: torch.Tensor, m: int) -> Coded:
    """ToMe's bipartite soft matching (arXiv 2210.09461) in STEPS steps: every other token looks for the most similar
    one among the rest, and the most similar pairs are merged, a token counting as many as it is of. Restored as ToMe
    unmerges: each place gets the token that it was merged into."""
    b, n, _ = x_BNC.shape
    token_BN = torch.arange(n, device=x_BNC.device).expand(b, -1)
    x_BTC, size_BT, each = x_BNC, torch.ones_like(x_BNC[..., 0]), -(-(n - m) // STEPS)
    while (t := x_BTC.shape[1]) > m:
        into_BT = _matched(x_BTC, min(each, t // 2, t - m))
        token_BN = into_BT.gather(1, token_BN)
        x_BTC, size_BT = _means(x_BTC, size_BT, into_BT)
    return x_BTC, grid.take(x_BTC, token_BN)


def _matched(x_BTC: torch.Tensor, r: int) -> torch.Tensor:
    """(B, T) which of T − r tokens each becomes."""
    unit_BTC = F.normalize(x_BTC, dim=-1)
    best_BS, partner_BS = (unit_BTC[:, ::2] @ unit_BTC[:, 1::2].mT).max(-1)
    order_BS = best_BS.argsort(dim=1, descending=True, stable=True)
    merged, kept = order_BS[:, :r], order_BS[:, r:].sort(1).values
    stays, device = kept.shape[1], x_BTC.device
    into_BS = torch.empty_like(partner_BS).scatter_(1, kept, torch.arange(stays, device=device).expand_as(kept))
    into_BS.scatter_(1, merged, stays + partner_BS.gather(1, merged))
    into_BT = torch.empty(x_BTC.shape[:2], dtype=torch.long, device=device)
    into_BT[:, ::2], into_BT[:, 1::2] = into_BS, stays + torch.arange(x_BTC.shape[1] // 2, device=device)
    return into_BT


def _means(x_BTC: torch.Tensor, size_BT: torch.Tensor, into_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the tokens that become one, weighted by their sizes, and its size; every number of tokens up to the
    largest of `into_BT` has one at least."""
    b, _, c = x_BTC.shape
    count = int(into_BT.max()) + 1
    size = size_BT.new_zeros(b, count).scatter_add_(1, into_BT, size_BT)
    sums = x_BTC.new_zeros(b, count, c).scatter_add_(1, into_BT[..., None].expand_as(x_BTC), x_BTC * size_BT[..., None])
    return sums / size[..., None], size


def keep_diverse(x_BNC: torch.Tensor, m: int) -> Coded:
    """DivPrune (arXiv 2503.02175): tokens such that the smallest distance between two of them is large, picked
    greedily. The first is the one whose nearest other is farthest; then always the one that is farthest from all picked
    so far. Restored from what a receiver of tokens and places knows: each place gets the mean of all tokens, weighted
    by the inverse square of their distance in the grid (Shepard 1968, doi 10.1145/800186.810616)."""
    unit_BNC = F.normalize(x_BNC, dim=-1)
    distance_BNN = 1 - unit_BNC @ unit_BNC.mT
    picks = [(distance_BNN + 9 * torch.eye(x_BNC.shape[1], device=x_BNC.device)).amin(-1).argmax(1, keepdim=True)]
    nearest_BN = torch.full_like(distance_BNN[:, 0], 9)  # above every distance, which is at most 2
    while len(picks) < m:
        nearest_BN = torch.minimum(nearest_BN, grid.take(distance_BNN, picks[-1])[:, 0])
        nearest_BN.scatter_(1, picks[-1], -1)
        picks.append(nearest_BN.argmax(1, keepdim=True))
    kept_BM = torch.cat(picks, dim=1)
    z_BMC = grid.take(x_BNC, kept_BM)
    return z_BMC, _weights(kept_BM, x_BNC.shape[1]) @ z_BMC


def _weights(kept_BM: torch.Tensor, n: int) -> torch.Tensor:
    """(B, N, M) of tokens kept at these places, at each place; a kept place has its own token alone."""
    g, place_N = round(n**0.5), torch.arange(n, device=kept_BM.device)
    at_N2, at_BM2 = (torch.stack([place // g, place % g], dim=-1).float() for place in (place_N, kept_BM))
    closeness_BNM = 1 / (at_N2[:, None] - at_BM2[:, None]).square().sum(-1).clamp_min(SMALLEST)
    return closeness_BNM / closeness_BNM.sum(-1, keepdim=True)


def keep_salient(x_BNC: torch.Tensor, saliency_BN: torch.Tensor, m: int) -> Coded:
    """VisionZip (arXiv 2412.04467): the tokens that the class token attends to most are kept; of what remains some,
    evenly spaced, each become the mean of themselves and of the others that are most similar to them. (Its published
    code adds the two; a mean is a token's size.) Restored as they were merged."""
    merged = max(1, m - round(m * DOMINANT))
    order_BN = saliency_BN.argsort(dim=1, descending=True, stable=True)
    kept, rest_BR = order_BN[:, : m - merged], order_BN[:, m - merged :].sort(1).values
    target = torch.arange(merged, device=x_BNC.device) * (rest_BR.shape[1] // merged)
    x_BRC = grid.take(x_BNC, rest_BR)
    unit_BRC = F.normalize(x_BRC, dim=-1)
    into_BR = (unit_BRC @ unit_BRC[:, target].mT).argmax(-1)
    into_BR[:, target] = torch.arange(merged, device=x_BNC.device)
    merged_BRC, _ = _means(x_BRC, torch.ones_like(x_BRC[..., 0]), into_BR)
    token_BN = torch.empty_like(order_BN).scatter_(1, rest_BR, m - merged + into_BR)
    token_BN.scatter_(1, kept, torch.arange(m - merged, device=x_BNC.device).expand_as(kept))
    z_BMC = torch.cat([grid.take(x_BNC, kept), merged_BRC], dim=1)
    return z_BMC, grid.take(z_BMC, token_BN)
