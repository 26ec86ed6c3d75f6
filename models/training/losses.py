"""What training minimises, in decibels.

Both losses are a floored signal-to-noise ratio. For an estimate e of a target s, with the mixture x for scale,

    loss(e, s) = 10 log10( |e - s|^2 + floor * r ) - 10 log10( r ),   r = |s|^2, or |x|^2 where s is silent,

so that a source already at 20 dB (floor 1e-2) stops pulling, and a silent target asks for an output far below the
mixture (S. Wisdom et al., "Unsupervised Sound Separation Using Mixture Invariant Training", 2020, eq. 3;
arXiv:2006.12701). A lower floor lets silent targets rule: the gradient of the logarithm is largest at |e|^2 = floor * r,
where it is some 1/sqrt(floor) times that of a pair not yet separated. Unlike SI-SDR (J. Le Roux et al., 2019,
arXiv:1811.02508) this loss also teaches the level.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

FLOOR = 1e-2
SILENT = 1e-4  # a source this far (-40 dB) below the mixture counts as silent


def energy(pcm: Tensor) -> Tensor:
    """Sum of squares over channels and time: `[..., C, T]` -> `[...]`."""
    return pcm.square().sum((-1, -2))


def floored_snr(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """The loss above in dB, lower is better. `[..., C, T]` each, mixture broadcasting -> `[...]`."""
    whole, own = energy(mixture), energy(target)
    reference = torch.where(own > SILENT * whole, own, whole) + 1e-6
    error = energy(estimate - target)
    return 10 * torch.log10(error + FLOOR * reference) - 10 * torch.log10(reference)


def permutation_invariant(estimate: Tensor, target: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
    """The best order of the outputs for each row (D. Yu et al., "Permutation invariant training", 2017, arXiv:1607.00325).

    Shape: estimate, target `[B, S, C, T]`, mixture `[B, C, T]` -> loss `[B]` and the order `[B, S]`: output
    `order[b, s]` belongs to target s.
    """
    count = target.shape[1]
    pairs = floored_snr(estimate.unsqueeze(1), target.unsqueeze(2), mixture[:, None, None])  # [B, target, output]
    orders = torch.tensor(list(permutations(range(count))), device=pairs.device)  # [P, S]
    costs = torch.stack([pairs[:, range(count), order].mean(-1) for order in orders], dim=-1)  # [B, P]
    best = costs.min(-1)
    return best.values, orders[best.indices]


def stems_loss(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Mean of the floored SNR over the stems in their fixed order. `[B, S, C, T]` -> `[B]`."""
    return floored_snr(estimate, target, mixture.unsqueeze(1)).mean(-1)


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (no mean removal). `[..., C, T]` -> `[...]`."""
    scale = (estimate * target).sum((-1, -2)) / (energy(target) + 1e-12)
    wanted = scale[..., None, None] * target
    return 10 * torch.log10((energy(wanted) + 1e-12) / (energy(estimate - wanted) + 1e-12))
