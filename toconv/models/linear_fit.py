"""The best linear codes of blocks of tokens that do not overlap: on the training tokens, and on others."""

# B batch, N = g*g, M = k*k, C channels, P = s*s tokens of a block, D = P*C channels of a block, T blocks,
# Q coordinates of a block, E some of them, F folds, I training images

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from toconv import grid
from toconv.models.linear_code import LinearCode
from toconv.models.protocols import Images


class Shrinkage(NamedTuple):
    """Shares of what a covariance is shrunk towards: channels that are alike, μ; coordinates that are apart, ν."""

    alike: float
    apart: float


SHRINKAGES = tuple(  # among which cross-validation chooses
    Shrinkage(alike, apart) for apart in (0.0, 0.3) for alike in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
)
COORDINATES, LEAST_COORDINATES = 4, 2048  # of a block, for each channel that is kept, and at least
FOR_CHOICE = 2  # coordinates for each channel that is kept, on which shrinkages are compared
NOTHING = 1e-6  # of the largest variance: an axis with less has none


@dataclass(frozen=True)
class LinearCodes:
    """Per-block PCA, the best code on the training tokens, and `linear`, its shrunk and completed form, which is better
    on others. Named as `model.compressor.init` and the baselines name them."""

    pca: LinearCode
    linear: LinearCode
    shrinkage: Shrinkage  # of `linear`

    def state_dict(self) -> dict[str, Any]:
        return {"pca": self.pca.state_dict(), "linear": self.linear.state_dict(), "shrinkage": [*self.shrinkage]}


def fit_linear_codes(train: Images, fold_I: torch.Tensor, g: int, k: int) -> LinearCodes:
    """Fitted on all training tokens, three times streamed by; memory does not grow with their number.

    Both are the leading eigenvectors of a covariance of blocks: PCA of Σ, the other one of
    (1 − μ − ν)Σ + μ(Σ_P ⊗ I) + ν diag Σ, Σ_P being the covariance of a block's places, the same for all channels, and
    the diagonal that of its coordinates. Of SHRINKAGES the one is taken that leaves least of images that the fit did
    not see: `fold_I` (I,) says in which fold each training image lies, 0, 1, …; those of one picture must lie in one.
    With a single fold nothing can be compared, and it is the most shrunk of all.

    A block's coordinates are its channels' principal axes within each axis of Σ_P, for which Σ_P ⊗ I is diagonal; the
    Q of them with the most variance are kept, all D where there are no more."""
    axes = _fit_axes(train, g, k)
    moments = _moments(train, fold_I, axes, k)
    shrinkage = _chosen(moments, axes)
    sigma_QQ = moments.covariance(moments.mean())
    pca = _code(axes, sigma_QQ, Shrinkage(0.0, 0.0), g, k, completed=False)
    return LinearCodes(pca, _code(axes, sigma_QQ, shrinkage, g, k, completed=True), shrinkage)


@dataclass(frozen=True)
class _Axes:
    """The coordinates of a block: along an axis of its places, then along an axis of the channels there."""

    mean_D: torch.Tensor
    places_PP: torch.Tensor  # axes of places as columns, by falling variance
    channels: list[torch.Tensor]  # for each of them (C, ·) axes of channels
    alike_Q: torch.Tensor  # a coordinate's variance if all channels were alike, of Σ_P ⊗ I

    def of(self, blocks_BMD: torch.Tensor) -> torch.Tensor:
        """(B, M, D) → (B, M, Q)."""
        blocks_BMPC = (blocks_BMD - self.mean_D).unflatten(2, (len(self.places_PP), -1))
        along_PBMC = torch.einsum("bmpc,pq->qbmc", blocks_BMPC, self.places_PP)
        return torch.cat([x @ axes for x, axes in zip(along_PBMC, self.channels, strict=True)], -1)

    def back(self, basis_QE: torch.Tensor) -> torch.Tensor:
        """Directions in coordinates → directions in blocks, (Q, E) → (D, E)."""
        parts = basis_QE.split([axes.shape[1] for axes in self.channels])
        along_PCE = torch.stack([axes @ part for axes, part in zip(self.channels, parts, strict=True)])
        return torch.einsum("pq,qce->pce", self.places_PP, along_PCE).flatten(0, 1)

    def means_CQ(self) -> torch.Tensor:
        """What a block's coordinates say of the mean of its tokens."""
        shares_P = self.places_PP.mean(0)
        return torch.cat([share * axes for share, axes in zip(shares_P, self.channels, strict=True)], 1)


def _fit_axes(train: Images, g: int, k: int) -> _Axes:
    """Two passes: the covariance of places, then that of channels along each of its axes."""
    places, blocks = (-(-g // k)) ** 2, train.images * k * k
    sum_D = gram_PP = torch.zeros((), dtype=torch.float64)
    for x_BNC in train:
        blocks_TPC = grid.blocks(x_BNC, k).flatten(0, 1).unflatten(1, (places, -1))
        sum_D = sum_D + blocks_TPC.sum(0).flatten().double()
        gram_PP = gram_PP + torch.einsum("tpc,tqc->pq", blocks_TPC, blocks_TPC).double()
    mean_PC = (sum_D / blocks).unflatten(0, (places, -1))
    channels = mean_PC.shape[1]
    variance_P, places_PP = torch.linalg.eigh((gram_PP / blocks - mean_PC @ mean_PC.T) / channels)
    variance_P, places_PP, mean_D = variance_P.flip(0).float(), places_PP.flip(1).float(), mean_PC.flatten().float()
    sigma_PCC = torch.zeros((), dtype=torch.float64)
    for x_BNC in train:
        blocks_TPC = (grid.blocks(x_BNC, k).flatten(0, 1) - mean_D).unflatten(1, (places, -1))
        along_PTC = torch.einsum("tpc,pq->qtc", blocks_TPC, places_PP)
        sigma_PCC = sigma_PCC + (along_PTC.transpose(1, 2) @ along_PTC).double()
    variance_PC, axes_PCC = torch.linalg.eigh((sigma_PCC / blocks).float())
    kept = min(places * channels, max(COORDINATES * channels, LEAST_COORDINATES))
    order = (variance_PC + variance_P[:, None]).flatten().topk(kept).indices
    is_kept_PC = torch.zeros(places * channels, dtype=torch.bool, device=order.device).index_fill_(0, order, True)
    is_kept_PC = is_kept_PC.view(places, channels)
    axes = [axes_CC[:, is_kept_C] for axes_CC, is_kept_C in zip(axes_PCC, is_kept_PC, strict=True)]
    return _Axes(mean_D, places_PP, axes, variance_P.repeat_interleave(is_kept_PC.sum(1)))


@dataclass(frozen=True)
class _Moments:
    """Sums over the blocks of each fold."""

    count_F: torch.Tensor
    sum_FQ: torch.Tensor
    product_FQQ: torch.Tensor

    def without(self, fold: int) -> "_Moments":
        others = [f for f in range(len(self.count_F)) if f != fold]
        return _Moments(self.count_F[others], self.sum_FQ[others], self.product_FQQ[others])

    def only(self, fold: int) -> "_Moments":
        return _Moments(self.count_F[[fold]], self.sum_FQ[[fold]], self.product_FQQ[[fold]])

    def mean(self) -> torch.Tensor:
        return self.sum_FQ.sum(0) / self.count_F.sum()

    def covariance(self, about_Q: torch.Tensor) -> torch.Tensor:
        """(Q, Q) fp32, about a point."""
        product_QQ, mean_Q = self.product_FQQ.sum(0) / self.count_F.sum(), self.mean()
        cross_QQ = torch.outer(mean_Q, about_Q)
        return (product_QQ - cross_QQ - cross_QQ.T + torch.outer(about_Q, about_Q)).float()


def _moments(train: Images, fold_I: torch.Tensor, axes: _Axes, k: int) -> _Moments:
    """One pass."""
    folds = int(fold_I.max()) + 1
    count_F = torch.zeros(folds, dtype=torch.float64)
    sums, products = ([torch.zeros((), dtype=torch.float64)] * folds for _ in range(2))
    first = 0
    for x_BNC in train:
        coordinates_BMQ, fold_B = axes.of(grid.blocks(x_BNC, k)), fold_I[first : first + len(x_BNC)]
        first += len(x_BNC)
        for fold in fold_B.unique().tolist():
            y_TQ = coordinates_BMQ[(fold_B == fold).to(x_BNC.device)].flatten(0, 1)
            count_F[fold] += len(y_TQ)
            sums[fold] = sums[fold] + y_TQ.sum(0).double()
            products[fold] = products[fold] + (y_TQ.T @ y_TQ).double()
    return _Moments(count_F.to(sums[0].device), torch.stack(sums), torch.stack(products))


def _chosen(moments: _Moments, axes: _Axes) -> Shrinkage:
    """By what is left of the folds that a fit did not see, in the coordinates that lead in those that it saw."""
    channels, folds = len(axes.channels[0]), range(len(moments.count_F))
    if len(folds) < 2:
        return max(SHRINKAGES, key=sum)
    left = dict.fromkeys(SHRINKAGES, 0.0)
    for fold in folds:
        seen, unseen = moments.without(fold), moments.only(fold)
        sigma_QQ, unseen_QQ = seen.covariance(seen.mean()), unseen.covariance(seen.mean())
        turn_QE, alike_E = _leading_axes(sigma_QQ, axes, min(FOR_CHOICE * channels, len(sigma_QQ)))
        sigma_EE, unseen_EE = (turn_QE.T @ x @ turn_QE for x in (sigma_QQ, unseen_QQ))
        for shrinkage in SHRINKAGES:
            basis_EC = _leading(sigma_EE, alike_E, shrinkage, channels)
            held = (basis_EC * (unseen_EE @ basis_EC)).sum()
            left[shrinkage] += float(unseen.count_F.sum() * (unseen_QQ.trace() - held))
    return min(left, key=lambda shrinkage: left[shrinkage])


def _leading_axes(sigma_QQ: torch.Tensor, axes: _Axes, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(Q, count) coordinates of a fit that has this covariance: principal within each axis of places; and `alike_Q` of
    these."""
    sizes = [channels.shape[1] for channels in axes.channels]
    blocks = [rows.split(sizes, 1)[i] for i, rows in enumerate(sigma_QQ.split(sizes))]
    turn_QQ = torch.block_diag(*(torch.linalg.eigh(block_EE).eigenvectors for block_EE in blocks))
    variance_Q = (turn_QQ * (sigma_QQ @ turn_QQ)).sum(0)
    leading = (variance_Q + axes.alike_Q).topk(count).indices
    return turn_QQ[:, leading], axes.alike_Q[leading]


def _leading(sigma_QQ: torch.Tensor, alike_Q: torch.Tensor, shrinkage: Shrinkage, count: int) -> torch.Tensor:
    """(Q, count) eigenvectors of the largest eigenvalues of the shrunk covariance; zero where there is no variance."""
    apart_Q = shrinkage.alike * alike_Q + shrinkage.apart * sigma_QQ.diagonal()
    values_Q, vectors_QQ = torch.linalg.eigh((1 - sum(shrinkage)) * sigma_QQ + apart_Q.diag())
    return vectors_QQ[:, -count:] * (values_Q[-count:] > NOTHING * values_Q[-1])


def _code(axes: _Axes, sigma_QQ: torch.Tensor, shrinkage: Shrinkage, g: int, k: int, completed: bool) -> LinearCode:
    channels, s = len(axes.channels[0]), -(-g // k)
    basis_QC = _leading(sigma_QQ, axes.alike_Q, shrinkage, channels)
    u, _, vh = torch.linalg.svd(basis_QC.T @ sigma_QQ @ axes.means_CQ().T)
    shift_C = axes.mean_D.unflatten(0, (s * s, channels)).mean(0)
    code = LinearCode(channels, g, k, completed).to(sigma_QQ.device)
    code.load_state_dict({"weight_CD": axes.back(basis_QC @ (u @ vh)).T / s, "mean_D": axes.mean_D, "shift_C": shift_C})
    return code
