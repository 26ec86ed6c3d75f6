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

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

FLOOR = 1e-2
SILENT = 1e-4  # a source this far (-40 dB) below the mixture counts as silent


def energy(pcm: Tensor) -> Tensor:
    """Sum of squares over channels and time: `[..., C, T]` -> `[...]`."""
    return pcm.square().sum((-1, -2))


def floored_snr(estimate: Tensor, target: Tensor, mixture: Tensor, floor: float = FLOOR) -> Tensor:
    """The loss above in dB, lower is better. `[..., C, T]` each, mixture broadcasting -> `[...]`."""
    whole, own = energy(mixture), energy(target)
    reference = torch.where(own > SILENT * whole, own, whole) + 1e-6
    error = energy(estimate - target)
    return 10 * torch.log10(error + floor * reference) - 10 * torch.log10(reference)


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


def partition_invariant(estimate: Tensor, voices: Tensor, mixture: Tensor, frame: int = 320) -> tuple[Tensor, Tensor]:
    """The best way to share V voices among two outputs, such that no two voices of one output sound at once.

    With two voices this is PIT. With more, one output may carry several people one after another (T. von Neumann et al.,
    "Graph-PIT", 2021, arXiv:2107.14446). Two people are never told on one output while the other stays empty. Where
    every way has an overlap, all ways count.

    Shape: estimate `[B, 2, C, T]`, voices `[B, V, C, T]`, mixture `[B, C, T]` -> loss `[B]` and the targets that were
    meant, `[B, 2, C, T]`.
    """
    count = voices.shape[1]
    ways = torch.tensor([[way >> voice & 1 for voice in range(count)] for way in range(2**count)], device=voices.device)
    first = 1.0 - ways.float()  # [W, V]: 1 where the voice is told at output 0
    with torch.no_grad():
        level = voices[..., : voices.shape[-1] // frame * frame].square().mean(2).unflatten(-1, (-1, frame)).mean(-1)
        active = (level > 1e-3 * level.amax((1, 2), keepdim=True) + 1e-12).float()  # [B, V, F]
        met = torch.einsum("bif,bjf->bij", active, active) > 5  # frames of both
        same = (ways[:, :, None] == ways[:, None, :]).triu(1)  # [W, V, V]
        clash = (met[:, None] & same).any(-1).any(-1)  # [B, W]
        present = active.sum(-1) > 0
        at = [(present[:, None] & (ways == output)).any(-1) for output in (0, 1)]
        empty = ((~at[0] | ~at[1]) & (present.sum(1, keepdim=True) > 1)) | clash
        empty = empty & ~empty.all(1, keepdim=True)
    # |e - s|^2 = |e|^2 - 2 <e, s> + |s|^2 for every sum s of voices, out of a few products.
    flat, heard = voices.flatten(2), estimate.flatten(2)
    gram, across = flat @ flat.transpose(1, 2), heard @ flat.transpose(1, 2)  # [B, V, V], [B, 2, V]
    whole = energy(mixture).unsqueeze(1)
    costs = torch.zeros_like(clash, dtype=heard.dtype)
    for output, chosen in enumerate((first, 1 - first)):
        own = torch.einsum("wi,bij,wj->bw", chosen, gram, chosen)
        error = heard[:, output].square().sum(-1, keepdim=True) - 2 * across[:, output] @ chosen.T + own
        reference = torch.where(own > SILENT * whole, own, whole) + 1e-6
        costs = costs + 10 * torch.log10(error.clamp(min=0) / reference + FLOOR) / 2
    best = costs.masked_fill(empty, torch.inf).min(1)
    told, everyone = torch.einsum("bv,bvct->bct", first[best.indices], voices), voices.sum(1)
    return best.values, torch.stack((told, everyone - told), 1)


def multi_resolution_stft(estimate: Tensor, target: Tensor, sizes: tuple[int, ...] = (256, 1024, 2048)) -> Tensor:
    """Distance of magnitudes at several window lengths (R. Yamamoto et al., "Parallel WaveGAN", 2020, arXiv:1910.11480).

    Mean over `sizes` of the spectral convergence, floored for silent targets: `|M - N| / (|N| + floor)` in the
    Frobenius norm, which unlike the logarithmic distance does not reward noise in empty bins. `[B, S, C, T]` -> `[B]`.
    """
    total = estimate.new_zeros(len(estimate))
    for size in sizes:
        window = torch.hann_window(size, device=estimate.device)
        flat = torch.cat((estimate, target)).flatten(0, -2)
        found = torch.stft(flat, size, size // 4, window=window, return_complex=True).abs()
        found = found.view(2, *estimate.shape[:-1], *found.shape[-2:])
        gap, own = (found[0] - found[1]).square().sum((-1, -2, -3)), found[1].square().sum((-1, -2, -3))  # [B, S]
        total = total + ((gap + 1e-8) / (own + 0.01 * own.sum(1, keepdim=True) + 1e-6)).sqrt().mean(1)
    return total / len(sizes)


def stems_loss(
    estimate: Tensor, target: Tensor, mixture: Tensor, weights: Sequence[float] | None = None, floor: float = FLOOR
) -> Tensor:
    """Mean of the floored SNR over the stems in their fixed order, by `weights` if given. `[B, S, C, T]` -> `[B]`."""
    each = floored_snr(estimate, target, mixture.unsqueeze(1), floor)
    return each.mean(-1) if weights is None else each @ each.new_tensor(weights) / sum(weights)


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (no mean removal). `[..., C, T]` -> `[...]`."""
    scale = (estimate * target).sum((-1, -2)) / (energy(target) + 1e-12)
    wanted = scale[..., None, None] * target
    return 10 * torch.log10((energy(wanted) + 1e-12) / (energy(estimate - wanted) + 1e-12))
