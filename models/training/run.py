"""A run: network, averaged weights, optimiser, a schedule by the clock, and a checkpoint that goes on exactly.

On a GPU the network runs in bfloat16 where `torch.autocast` finds that safe; losses, transforms and weights stay in single
precision. So it does on a CPU that has bfloat16, where the plan says that this pays; elsewhere everything is single: without
it in hardware, half precision is many times slower.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.training.optimisers import optimiser
from models.training.task import Restorable, Task
from models.training.together import Together
from models.training.workers import Batch


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        minutes: of training over all resumptions; the learning rate reaches zero then, however slow the machine is.
        batch: segments a step.
        rate: peak learning rate.
        warmup: steps of linear rise.
        decay: of the averaged weights, a step, once there have been many.
        clip: largest norm of the gradient.
        beta: decay of the second moment in AdamW.
        muon: matrices with this in their name are moved by Muon.
        kernels: and so are kernels of convolutions.
        half: bfloat16 on CPUs too, where nearly all of a step are products of large matrices.
        every: seconds between validations, checkpoints and exports.
        seed: of weights and batches; step k draws from the generator (seed, k), so that a resumed run sees the same data.
    """

    minutes: float
    batch: int = 8
    rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.998
    clip: float = 5.0
    beta: float = 0.99
    muon: str | None = None
    kernels: bool = False
    half: bool = False
    every: float = 240.0
    seed: int = 0


def learning_rate(plan: Plan, step: int, elapsed: float) -> float:
    """Linear warm-up by steps, then half a cosine by elapsed seconds."""
    done = min(1.0, elapsed / (60 * plan.minutes))
    return plan.rate * min(1.0, (step + 1) / plan.warmup) * (0.5 + 0.5 * math.cos(math.pi * done))


def in_single(told: Any) -> Any:
    """Tensors of half precision, in tuples too, as float32."""
    if isinstance(told, Tensor):
        return told.float() if told.dtype in (torch.bfloat16, torch.float16) else told
    return tuple(in_single(part) for part in told) if isinstance(told, tuple) else told


def half_pays(plan: Plan, device: str) -> bool:
    """Whether the network is to run in bfloat16 there."""
    return torch.device(device).type == "cuda" or (plan.half and bool(torch.cpu._is_avx512_bf16_supported()))


def mixed_precision(network: nn.Module, device: str) -> None:
    """From now on `network(...)` computes in bfloat16 where that is safe, and answers in float32."""
    plain = network.forward

    def forward(*inputs: Any) -> Any:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            return in_single(plain(*inputs))

    network.forward = forward  # type: ignore[method-assign]


class Run:
    """Everything that changes while training, and its checkpoint `folder/last.pt`.

    Args:
        clock: seconds from anywhere.
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        folder: Path,
        device: str = "cpu",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        torch.manual_seed(plan.seed)
        self.task, self.plan, self.folder, self.device, self.clock = task, plan, Path(folder), device, clock
        self.network = task.network().to(device)
        self.average = task.network().to(device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        if half_pays(plan, device):
            mixed_precision(self.network, device)
        self.optimizer = optimiser(self.network, plan.rate, plan.beta, plan.muon, plan.kernels)
        self.step, self.elapsed, self.looked = 0, 0.0, 0.0
        self.recent: list[float] = []
        self.together: Together | None = None

    @property
    def progress(self) -> float:
        """Share of the planned time that has passed."""
        return min(1.0, self.elapsed / (60 * self.plan.minutes))

    def begin_with(self, folder: Path) -> None:
        """Start from the averaged weights of another run, or from exported ones, with a fresh optimiser.

        A run has more than its export: what is only trained with.

        Raises:
            TypeError: the task cannot read its exports.
            FileNotFoundError, ValueError: see `Restorable.restore`.
        """
        if (Path(folder) / "last.pt").is_file():
            state = self._read(Path(folder))
            self.network.load_state_dict(state["average"])
            self.average.load_state_dict(state["average"])
            return
        if not isinstance(self.task, Restorable):
            raise TypeError(f"{self.task.name}: its exports cannot be read back; expected a task with `restore`")
        for network in (self.network, self.average):
            self.task.restore(network, Path(folder))

    def train_step(self, draw: Callable[[], Batch]) -> dict[str, float]:
        """One optimiser step on one batch; one whose gradient is not finite is left out."""
        began = self.clock()
        batch = tuple(torch.from_numpy(part).to(self.device) for part in draw())
        rate = learning_rate(self.plan, self.step, self.elapsed)
        loss = self.task.loss(self.network, batch, self.progress)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.together:
            rate = self.together.mean(self.network, rate)
            if self.together.over:
                return {}
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip))
        if math.isfinite(norm):
            self.optimizer.step()
            self.follow()
        self.step += 1
        found = {"loss": float(loss.detach()), "norm": norm, "rate": rate}
        self.recent = [*self.recent[-99:], found["loss"]]
        self.elapsed += self.clock() - began
        return found

    @torch.no_grad()
    def follow(self) -> None:
        """Move the averaged weights; young runs average over fewer steps."""
        decay = min(self.plan.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        for kept, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(now)

    def save(self) -> None:
        """Write `folder/last.pt` in one rename."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cuda = torch.cuda.get_rng_state_all() if torch.device(self.device).type == "cuda" else []
        state = {
            "task": self.task.name,
            "step": self.step,
            "elapsed": self.elapsed,
            "looked": self.looked,
            "recent": self.recent,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": [torch.get_rng_state(), *cuda],
        }
        part = self.folder / "last.part"
        torch.save(state, part)
        part.replace(self.folder / "last.pt")

    def resume(self) -> None:
        """Take up `folder/last.pt`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is of another task or network.
        """
        state = self._read(self.folder)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"{self.folder}/last.pt: its optimiser is another one ({error}); use --from") from None
        self.step, self.elapsed = int(state["step"]), float(state["elapsed"])
        self.looked, self.recent = float(state.get("looked", self.elapsed)), list(state.get("recent", ()))
        random = state.get("random", [])
        if random:
            torch.set_rng_state(random[0])
        if len(random) > 1 and len(random) - 1 == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(random[1:])

    def _read(self, folder: Path) -> dict[str, Any]:
        """`folder/last.pt`, of this task and network."""
        path = folder / "last.pt"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: nothing to resume; start without --resume")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state.get("task", self.task.name) != self.task.name:
            raise ValueError(f"{path}: got a run of {state['task']}, expected {self.task.name}")
        own, found = ({k: v.shape for k, v in s.items()} for s in (self.network.state_dict(), state["network"]))
        differ = [key for key in (own | found) if own.get(key) != found.get(key)]
        if differ:
            told = f"{len(differ)} tensors differ, {differ[0]} first"
            raise ValueError(f"{path}: of another network than {self.task.name} now has ({told})")
        return dict(state)

    def export(self, folder: Path) -> None:
        """The averaged weights as the task ships them."""
        self.task.export(self.average, folder, {"steps": str(self.step), "minutes": f"{self.elapsed / 60:.1f}"})
