"""Compressors whose k×k tokens ask the original ones: TokenPacker and the resampler."""

# B batch, N = g*g, M = k*k, S tokens of a region, C channels of a token, W channels inside the branch

import torch
from torch import nn

from toconv import grid
from toconv.models.blocks import attention, zero_linear
from toconv.models.compressor import ResidualCompressor
from toconv.settings import CompressorSettings

EXPANDED = 4  # hidden channels of a feed-forward over W


class TokenPacker(ResidualCompressor):
    """Pooled queries attend to the tokens of their own region (arXiv 2407.02392, section 3.2)."""

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__(channels, grid_size, settings)
        self.branch = RegionAttention(channels, settings)


class RegionAttention(nn.Module):
    """Queries are pooled tokens, keys and values two MLPs of all tokens, each normalised; the answers go through an MLP
    with `blocks` hidden layers, one in the paper. Regions are `grid.blocks`: they overlap where k does not divide g. Of
    one layer of the encoder: the paper takes keys and values from four, which no token store has. Key biases are left
    out, since a softmax does not see them."""

    def __init__(self, channels: int, settings: CompressorSettings) -> None:
        super().__init__()
        self.k, self.heads, width = settings.output_grid_size, settings.heads, settings.width
        self.ask = nn.Sequential(nn.Linear(channels, width, bias=False), nn.LayerNorm(width))
        self.keys, self.values = (_two_layers(channels, width, bias) for bias in (False, True))
        self.query, self.value, self.answer = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)
        hidden = [layer for _ in range(settings.blocks) for layer in (nn.Linear(width, width), nn.GELU())]
        self.mlp = nn.Sequential(*hidden, zero_linear(width, channels))

    def forward(self, x_BNC: torch.Tensor) -> torch.Tensor:
        query_BMW = self.query(self.ask(grid.pool(x_BNC, self.k)))
        key_TSW, value_TSW = map(self._regions, (self.key(self.keys(x_BNC)), self.value(self.values(x_BNC))))
        answer_T1W = attention(query_BMW.flatten(0, 1)[:, None], key_TSW, value_TSW, self.heads)
        return self.mlp(self.answer(answer_T1W.view_as(query_BMW)))

    def _regions(self, x_BNW: torch.Tensor) -> torch.Tensor:
        """(B, N, W) → (B·M, S, W)."""
        return grid.blocks(x_BNW, self.k).flatten(0, 1).unflatten(1, (-1, x_BNW.shape[-1]))


class Resampler(ResidualCompressor):
    """k² learned queries attend to all tokens, layer by layer (the Perceiver resampler, arXiv 2204.14198; with one
    layer that of arXiv 2308.12966). Queries and tokens say where they stand by what is learned of each place."""

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__(channels, grid_size, settings)
        self.branch = LearnedQueries(channels, grid_size, settings)


class LearnedQueries(nn.Module):
    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__()
        width = settings.width
        self.queries_MW = nn.Parameter(torch.randn(settings.output_grid_size**2, width) * width**-0.5)
        self.places_NW = nn.Parameter(torch.randn(grid_size**2, width) * width**-0.5)
        self.read, self.norm = nn.Linear(channels, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(CrossAttention(width, settings.heads) for _ in range(settings.blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), zero_linear(width, channels))

    def forward(self, x_BNC: torch.Tensor) -> torch.Tensor:
        memory_BNW = self.norm(self.read(x_BNC) + self.places_NW)
        query_BMW = self.queries_MW.expand(x_BNC.shape[0], -1, -1)  # len() would fix B in a graph
        for layer in self.layers:
            query_BMW = layer(query_BMW, memory_BNW)
        return self.last(query_BMW)


class CrossAttention(nn.Module):
    """Attention of queries to a memory, then a feed-forward, each normalised before and added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.query, self.answer, self.key_value = (nn.Linear(width, n * width) for n in (1, 1, 2))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, EXPANDED * width), nn.GELU(), nn.Linear(EXPANDED * width, width)
        )

    def forward(self, query_BMW: torch.Tensor, memory_BNW: torch.Tensor) -> torch.Tensor:
        asked_BMW, (key_BNW, value_BNW) = self.query(self.norm(query_BMW)), self.key_value(memory_BNW).chunk(2, -1)
        query_BMW = query_BMW + self.answer(attention(asked_BMW, key_BNW, value_BNW, self.heads))
        return query_BMW + self.mlp(query_BMW)


def _two_layers(channels: int, width: int, bias: bool) -> nn.Sequential:
    last = nn.LayerNorm(width, bias=bias)
    return nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, width), last)
