"""Which weights these are, told from the weights themselves: formats differ in whether and how they carry a version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from models.separator import Spec

if TYPE_CHECKING:
    from torch import Tensor

FEW = 64  # values of each tensor: enough to tell two trainings apart, little enough for a gigabyte


def identified(spec: Spec, weights: Iterable[tuple[str, Tensor]]) -> Spec:
    """The spec with `version` and `size` of these weights."""
    digest, size = hashlib.sha256(), 0
    for name, tensor in weights:
        size += tensor.numel() * tensor.element_size()
        few = tensor.detach().flatten()[:FEW].float().cpu().numpy()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + few.tobytes())
    return replace(spec, version=digest.hexdigest()[:16], size=size)
