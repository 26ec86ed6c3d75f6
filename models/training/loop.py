"""The training loop: AdamW, averaged weights, a schedule by the clock, checkpoints that resume exactly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bsrnn import BandSplitRNN, Config, save
from models.training.losses import permutation_invariant, si_sdr, stems_loss


class Mixer(Protocol):
    """Anything that draws batches: mixtures `[B, C, T]` and sources `[B, S, C, T]`."""

    def batch(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


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
        ordered: minutes in which interchangeable outputs keep the order of the targets; then the best order counts.
            With the best order from the start, both outputs long stay alike: neither order is better, so that
            gradients of one step undo those of another.
        every: seconds between validations, checkpoints and exports.
        seed: of the mixtures; step k draws from the generator (seed, k), so that a resumed run sees the same data.
    """

    minutes: float
    batch: int = 8
    rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.998
    clip: float = 5.0
    ordered: float = 0.0
    every: float = 240.0
    seed: int = 0


def loss_of(config: Config, estimate: Tensor, target: Tensor, mixture: Tensor, ordered: bool = False) -> Tensor:
    """Mean loss in dB of a batch; in the best order where outputs are interchangeable, unless `ordered`."""
    if config.interchangeable and not ordered:
        return permutation_invariant(estimate, target, mixture)[0].mean()
    return stems_loss(estimate, target, mixture).mean()


def learning_rate(plan: Plan, step: int, elapsed: float) -> float:
    """Linear warm-up by steps, then half a cosine by elapsed seconds."""
    done = min(1.0, elapsed / (60 * plan.minutes))
    return plan.rate * min(1.0, (step + 1) / plan.warmup) * (0.5 + 0.5 * math.cos(math.pi * done))


class Run:
    """Everything that changes while training, and its checkpoint `folder/last.pt`."""

    def __init__(self, config: Config, plan: Plan, folder: Path, device: str = "cpu") -> None:
        torch.manual_seed(plan.seed)
        self.config, self.plan, self.folder, self.device = config, plan, folder, device
        self.network = BandSplitRNN(config).to(device)
        self.average = BandSplitRNN(config).to(device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        weights = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.99))
        self.step, self.elapsed = 0, 0.0

    def train_step(self, mixer: Mixer) -> dict[str, float]:
        """One optimiser step on one fresh batch."""
        began = time.monotonic()
        rng = np.random.default_rng((self.plan.seed, self.step))
        mixture, target = (torch.from_numpy(part).to(self.device) for part in mixer.batch(rng, self.plan.batch))
        rate = learning_rate(self.plan, self.step, self.elapsed)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        ordered = self.elapsed < 60 * self.plan.ordered
        loss = loss_of(self.config, self.network(mixture), target, mixture, ordered)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip))
        if math.isfinite(norm):
            self.optimizer.step()
            self.follow()
        self.step += 1
        self.elapsed += time.monotonic() - began
        return {"loss": float(loss.detach()), "norm": norm, "rate": rate}

    def follow(self) -> None:
        """Move the averaged weights; young runs average over fewer steps."""
        decay = min(self.plan.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "elapsed": self.elapsed,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        part = self.folder / "last.part"
        torch.save(state, part)
        part.replace(self.folder / "last.pt")

    def resume(self) -> None:
        """Take up `folder/last.pt`.

        Raises:
            FileNotFoundError: there is none.
        """
        path = self.folder / "last.pt"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: nothing to resume; start without --resume")
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = int(state["step"]), float(state["elapsed"])


def validate(run: Run, batches: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> dict[str, float]:
    """Loss and SI-SDR improvement (dB, mean and by source) of the averaged weights, over sources that are present."""
    config, losses = run.config, []
    gains: list[list[float]] = [[] for _ in config.sources]
    run.average.eval()
    with torch.no_grad():
        for one, two in batches:
            mixture, target = torch.from_numpy(one).to(run.device), torch.from_numpy(two).to(run.device)
            estimate = run.average(mixture)
            losses.append(float(loss_of(config, estimate, target, mixture)))
            if config.interchangeable:
                order = permutation_invariant(estimate, target, mixture)[1]
                estimate = torch.stack([row[o] for row, o in zip(estimate, order, strict=True)])
            gain = si_sdr(estimate, target) - si_sdr(mixture.unsqueeze(1).expand_as(target), target)
            share = target.square().sum((-1, -2)) / mixture.square().sum((-1, -2)).unsqueeze(1)
            several = ((share > 1e-3).sum(1, keepdim=True) > 1) & (share > 1e-3)
            for source, values in enumerate(gains):
                values.extend(gain[:, source][several[:, source]].tolist())
    by_source = {name: float(np.mean(v)) for name, v in zip(config.sources, gains, strict=True) if v}
    mean = float(np.mean([g for values in gains for g in values] or [0.0]))
    return {"validation_loss": float(np.mean(losses)), "si_sdr_gain": mean, **by_source}


def train(
    run: Run,
    mixer: Mixer,
    fixed: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    export: Path | None,
    tell: Callable[[str], None] = print,
    steps: int | None = None,
) -> None:
    """Train until the plan's minutes (or this many steps) are used up; log to `folder/log.jsonl`; export as it goes."""
    run.folder.mkdir(parents=True, exist_ok=True)
    recent: list[float] = []
    looked, last = run.elapsed, False
    while not last:
        facts: dict[str, Any] = run.train_step(mixer)
        recent = [*recent[-99:], facts["loss"]]
        last = run.elapsed >= 60 * run.plan.minutes or (steps is not None and run.step >= steps)
        if run.step % 20 == 0 or last:
            note(run, {"loss": float(np.mean(recent)), "norm": facts["norm"], "rate": facts["rate"]})
        if run.elapsed - looked > run.plan.every or last:
            looked = run.elapsed
            found = validate(run, fixed)
            note(run, found)
            tell(f"step {run.step} {run.elapsed / 60:.1f} min " + " ".join(f"{k} {v:.2f}" for k, v in found.items()))
            run.save()
            if export:
                save(run.average, export, half=True, steps=str(run.step), minutes=f"{run.elapsed / 60:.1f}")


def note(run: Run, facts: dict[str, float]) -> None:
    """Append one line to the log."""
    line = {"step": run.step, "minutes": round(run.elapsed / 60, 2), **{k: round(v, 6) for k, v in facts.items()}}
    with (run.folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
