"""Attentive probes: one learned query a part looks at the tokens, and a linear map reads it."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.representations.pictures import Split, Values

EPOCHS: Final = 20
BATCH: Final = 64
RATE: Final = 1e-2
DECAY: Final = 1e-3


class Attentive(nn.Module):
    """One query a part; its weighted mean of the tokens is read linearly.

    Args:
        width: of the tokens.
        parts: how many queries.
        dimensions: numbers that each of them tells.
    """

    def __init__(self, width: int, parts: int, dimensions: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(parts, width) * width**-0.5)
        self.read = nn.Parameter(torch.zeros(parts, width, dimensions))
        self.bias = nn.Parameter(torch.zeros(parts, dimensions))

    def forward(self, tokens: Tensor) -> Tensor:
        """Predictions (B, parts, dimensions) from tokens (B, T, width)."""
        weight = torch.softmax(tokens @ self.query.T, dim=1)
        seen = torch.einsum("btp,btd->bpd", weight, tokens)
        return torch.einsum("bpd,pdo->bpo", seen, self.read) + self.bias


def attentive_probes(
    features: NDArray[Any], truth: Mapping[str, Values], parts: Split
) -> dict[str, Values]:
    """Predictions (N, parts, dimensions) by target, each after the epoch best on other scenes.

    NaN for the pictures that are fitted to.

    All targets learn beside each other from the same batches and share no weight.

    Args:
        features: (N, T, D) tokens.
        truth: by target, (N, parts, dimensions); NaN where a picture has no such part.
        parts: which pictures are for what.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.from_numpy(features.astype(np.float32))
    fit = torch.from_numpy(parts.fit)
    mean, deviation = tokens[fit].mean((0, 1)), tokens[fit].std((0, 1)).clamp_min(1e-6)
    tokens = (tokens - mean) / deviation
    scaled, shifts, scales = {}, {}, {}
    for name, values in truth.items():
        shifts[name] = np.nanmean(values[parts.fit], axis=0)
        scales[name] = np.maximum(np.nanstd(values[parts.fit], axis=0), 1e-6)
        scaled[name] = torch.from_numpy((values - shifts[name]) / scales[name]).float()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        probes = nn.ModuleDict(
            {name: Attentive(tokens.shape[-1], *values.shape[1:]) for name, values in truth.items()}
        )
        best: dict[str, tuple[float, Values]] = {}
        steps = torch.optim.AdamW(probes.parameters(), RATE, weight_decay=DECAY)
        places = fit.nonzero()[:, 0]
        asked = np.flatnonzero(~parts.fit)
        judged = torch.from_numpy(parts.choose[asked])
        for _ in range(EPOCHS):
            order = places[torch.randperm(len(places), generator=generator)]
            for some in order.split(BATCH):
                loss = sum(
                    _squares(probe(tokens[some]), scaled[name][some]).mean()
                    for name, probe in probes.items()
                )
                steps.zero_grad()
                loss.backward()  # type: ignore[union-attr]
                steps.step()
            with torch.no_grad():
                for name, probe in probes.items():
                    told = probe(tokens[asked])
                    wrong = float(_squares(told[judged], scaled[name][asked][judged]).mean())
                    if name not in best or wrong < best[name][0]:
                        values = np.full(truth[name].shape, np.nan)
                        values[asked] = told.double().numpy() * scales[name] + shifts[name]
                        best[name] = wrong, values
    return {name: values for name, (_, values) in best.items()}


def _squares(predicted: Tensor, truth: Tensor) -> Tensor:
    known = ~truth.isnan()
    return (predicted[known] - truth[known]) ** 2
