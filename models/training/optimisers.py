"""How weights move: AdamW, and Muon for the matrices of a transformer.

Muon (K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) moves a matrix by the orthogonal
matrix nearest to its mean gradient, so that no direction of it learns faster than others; torch has it. Its steps are scaled
here as in J. Liu et al., "Muon is scalable for LLM training", 2025 (arXiv:2502.16982), so that one learning rate suits both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

DECAY = 0.01  # of weights, a step at a rate of 1


class Both:
    """Several optimisers as one; each moves its own weights."""

    def __init__(self, **parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts.values() for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts.values():
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the state of other optimisers."""
        if set(state) != set(self.parts):
            raise ValueError(f"got the state of {sorted(state)}, expected that of {sorted(self.parts)}")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


class Flat(torch.optim.Muon):
    """Muon for kernels too: each is the matrix of its first dimension and all others, in the same memory."""

    def __init__(self, weights: Sequence[nn.Parameter], **settings: Any) -> None:
        self.weights = list(weights)
        self.matrices = [nn.Parameter(weight.detach().view(len(weight), -1)) for weight in self.weights]
        super().__init__(self.matrices, **settings)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.weights:
            weight.grad = None

    def step(self) -> None:  # type: ignore[override]
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        super().step()


def optimiser(
    network: nn.Module, rate: float, beta: float, muon: str | None, kernels: bool = False
) -> torch.optim.Optimizer | Both:
    """AdamW, which shrinks matrices and larger tensors only; Muon for matrices with `muon` in their name, and for kernels of
    convolutions where that is said."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    ours = [p for name, p in named if muon is not None and muon in name]
    hidden = [p for p in ours if p.ndim == 2 or (kernels and p.ndim > 2)]
    taken = {id(p) for p in hidden}
    weights = [p for _, p in named if p.ndim > 1 and id(p) not in taken]
    others = [p for _, p in named if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=rate, betas=(0.9, beta))
    if muon is None:
        return adamw
    if not hidden:
        raise ValueError(f"got no matrix with {muon!r} in its name, expected those that Muon is to move")
    scaled = "match_rms_adamw"
    return Both(adamw=adamw, muon=Flat(hidden, lr=rate, weight_decay=DECAY, adjust_lr_fn=scaled))
