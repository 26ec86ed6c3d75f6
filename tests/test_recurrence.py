"""The gated linear recurrence of the band-split RNN: as a loop over time and as a parallel scan."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from models.recurrence import Interpolate, Memory  # noqa: E402


@pytest.mark.parametrize("parallel", [False, True])
def test_the_recurrence_has_the_gradient_of_its_definition(parallel: bool) -> None:
    torch.manual_seed(0)
    v, z, start = (
        torch.rand(*shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 2, 3), (6, 2, 3), (2, 3))
    )
    assert torch.autograd.gradcheck(Interpolate.apply, (v, z, start, parallel))


def recurrence(v: Tensor, z: Tensor, start: Tensor, weight: Tensor, parallel: bool) -> list[Tensor]:
    """Values and the gradients of v, z and start."""
    leaves = [part.detach().clone().requires_grad_() for part in (v, z, start)]
    h = Interpolate.apply(*leaves, parallel)
    (h * weight).sum().backward()
    return [h.detach(), *(leaf.grad for leaf in leaves)]


GATES = {
    "any": lambda shape, rng: torch.rand(shape, generator=rng),
    "open or shut": lambda shape, rng: (torch.rand(shape, generator=rng) > 0.5).float(),
    "nearly": lambda shape, rng: torch.sigmoid(20 * torch.randn(shape, generator=rng)),
    "open": lambda shape, rng: torch.full(shape, 1 - 1e-7),
}


@pytest.mark.parametrize("gates", GATES)
def test_the_scan_is_the_loop(gates: str) -> None:
    rng = torch.Generator().manual_seed(3)
    for length in (*range(1, 18), 31, 32, 33, 100, 188, 257, 500):
        shape = (length, 2, 5)
        v, weight = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        parts = (v, GATES[gates](shape, rng), torch.randn(shape[1:], generator=rng), weight)
        for one, other in zip(recurrence(*parts, False), recurrence(*parts, True), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_with_gates_all_but_shut_the_scan_is_as_exact_as_the_loop() -> None:
    """1 - z is only known to 6e-8 then, in the loop's gradient too: both against double precision."""
    rng = torch.Generator().manual_seed(4)
    v, weight = torch.randn(2, 500, 2, 5, generator=rng)
    parts = (v, torch.full_like(v, 1e-7), torch.randn(2, 5, generator=rng), weight)
    exact = recurrence(*(part.double() for part in parts), False)
    for one, other, right in zip(recurrence(*parts, False), recurrence(*parts, True), exact, strict=True):
        assert (other - right).abs().max() <= 2 * (one - right).abs().max() + 1e-5 * (1 + right.abs().max())


def test_the_scan_starts_few_operators() -> None:
    class Count(TorchDispatchMode):
        """Operators that compute; on a GPU each is a launch."""

        def __init__(self) -> None:
            super().__init__()
            self.number = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            views = ("slice", "select", "unbind", "view", "detach", "alias", "empty", "expand", "squeeze")
            self.number += not any(word in func.__name__ for word in views)
            return func(*args, **(kwargs or {}))

    numbers = {}
    for parallel in (False, True):
        with Count() as told:
            recurrence(torch.rand(188, 2), torch.rand(188, 2), torch.rand(2), torch.rand(188, 2), parallel)
        numbers[parallel] = told.number
    assert numbers[False] > 2 * 188
    assert numbers[True] < 100


def test_gates_computed_in_half_precision_leave_the_state_in_single() -> None:
    memory, start = Memory(12, 12), torch.zeros(1, 11, 12)
    with torch.autocast("cpu", torch.bfloat16):
        told, state = memory(torch.randn(4, 1, 11, 12), start)
    assert state.dtype == torch.float32
    assert told.dtype == torch.bfloat16
