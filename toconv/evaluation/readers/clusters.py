"""Classes without labels: k-means of tokens."""

# T tokens, D coordinates, K clusters

import torch

CLUSTERS, ROUNDS, SEED = 16, 30, 0
MOST_TOKENS = 2**15  # evenly spaced; of them the centres are found


def cluster_centres(x_TD: torch.Tensor) -> torch.Tensor:
    """(K, D): Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007) with a fixed seed."""
    sample_TD = x_TD[torch.arange(min(MOST_TOKENS, len(x_TD))) * len(x_TD) // min(MOST_TOKENS, len(x_TD))].float()
    generator = torch.Generator().manual_seed(SEED)
    centres_KD = sample_TD[:1]
    while len(centres_KD) < CLUSTERS:
        distance_T = torch.cdist(sample_TD, centres_KD).square().amin(1).cpu() + 1e-12
        drawn = torch.multinomial(distance_T, 1, generator=generator)
        centres_KD = torch.cat([centres_KD, sample_TD[drawn.to(sample_TD.device)]])
    for _ in range(ROUNDS):
        member_TK = torch.nn.functional.one_hot(nearest_centre(sample_TD, centres_KD), CLUSTERS).float()
        count_K = member_TK.sum(0)[:, None]
        centres_KD = torch.where(count_K > 0, member_TK.T @ sample_TD / count_K.clamp_min(1), centres_KD)
    return centres_KD


def nearest_centre(x_TD: torch.Tensor, centres_KD: torch.Tensor) -> torch.Tensor:
    """(T,) the number of each token's cluster; of any leading shape."""
    products = x_TD.float() @ centres_KD.T
    return (products - centres_KD.square().sum(1) / 2).argmax(-1)
