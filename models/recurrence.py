"""A gated linear recurrence: step by step, or as a parallel scan.

Source: J. Bradbury et al., "Quasi-recurrent neural networks", 2017 (arXiv:1611.01576), with a kernel of one; also "minGRU",
arXiv:2410.01201.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def scan(keep: Tensor, new: Tensor, out: Tensor) -> Tensor:
    """`h[t] = keep[t] h[t-1] + new[t]` over the first axis from zero, in log2(T) rounds of whole-tensor operations.

    Two steps are one of the same kind: h[t] = (keep[t] keep[t-1]) h[t-2] + (keep[t] new[t-1] + new[t]). So a sequence of
    half the length gives every second h, and those give the others: twice the arithmetic of the loop, and 4 operators a
    round in place of one a step (G. Blelloch, "Prefix sums and their applications", 1990). There is no division by
    products of gates; they may vanish.

    Shape: `keep`, `new`, `out` `[T, ...]`; writes and returns `out`.
    """
    pairs = len(new) // 2
    if pairs:
        early, late = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        twice = torch.addcmul(new[late], keep[late], new[early])
        known = scan(keep[late] * keep[early], twice, out[late])
        rest = new[2::2]
        torch.addcmul(rest, keep[2::2], known[: len(rest)], out=out[2::2])
    out[0] = new[0]
    return out


class Interpolate(torch.autograd.Function):
    """`h[t] = h[t-1] + z[t] (v[t] - h[t-1])` over the first axis, with `h[-1] = start`.

    With a[t] = 1 - z[t], the gradient G[t] that reaches h[t] by all ways obeys G[t] = g[t] + a[t+1] G[t+1]: the same
    recurrence backwards. Then dv[t] = z[t] G[t], dz[t] = (v[t] - h[t-1]) G[t] and dstart = a[0] G[0].

    `parallel` takes `scan` in place of a loop over time: for a GPU, where starting an operator costs more than running it.

    Shape: `v`, `z` `[T, ...]`, `start` `[...]` -> `[T, ...]`.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, z: Tensor, start: Tensor, parallel: bool) -> Tensor:
        h = torch.empty_like(v)
        if parallel:
            new = v * z
            torch.lerp(start, v[0], z[0], out=new[0])
            scan(1 - z, new, h)
        else:
            last = start
            for value, gate, out in zip(v.unbind(0), z.unbind(0), h.unbind(0), strict=True):
                last = torch.lerp(last, value, gate, out=out)
        ctx.save_for_backward(v, z, start, h)
        ctx.parallel = parallel
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        v, z, start, h = ctx.saved_tensors
        keep = 1 - z
        total = torch.empty_like(v)
        if ctx.parallel:
            scan(keep.roll(-1, 0).flip(0), grad.flip(0), total)
            total = total.flip(0)
        else:
            total[-1] = grad[-1]
            for t in range(len(v) - 2, -1, -1):
                torch.addcmul(grad[t], keep[t + 1], total[t + 1], out=total[t])
        before = torch.cat((start.unsqueeze(0), h[:-1]))
        return total * z, total * (v - before), total[0] * keep[0], None


class Memory(nn.Module):
    """A gated linear recurrence with an output gate. `[T, ..., D]`, state `[..., H]` -> the same."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(features, 3 * hidden)
        self.out = nn.Linear(hidden, features)
        with torch.no_grad():  # time constants spread from one frame to about fifty
            self.gates.bias[:hidden] = torch.linspace(1, -4, hidden)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        z, v, gate = self.gates(x).chunk(3, dim=-1)
        if len(x) == 1 and not torch.is_grad_enabled():  # one frame of a stream, in what `torch.jit` can read
            h = torch.lerp(state, v[0], torch.sigmoid(z)[0]).unsqueeze(0)
        else:  # in the precision of the state, whatever the products were made in
            z, v = torch.sigmoid(z.to(state.dtype)), v.to(state.dtype).contiguous()
            h = Interpolate.apply(v, z, state, v.is_cuda)  # type: ignore[no-untyped-call]
        return self.out(h * nn.functional.silu(gate)), h[-1]
