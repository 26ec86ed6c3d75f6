"""The training loop: steps, looks, logs and checkpoints until the time is used up, alone or along with other processes."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models.training.run import Run
from models.training.together import Together
from models.training.workers import Workers

Tell = Callable[[str], None]


class Log:
    """`folder/log.jsonl`, a line a note, and the same figures for TensorBoard in `folder/events` where it is installed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.board = folder / "log.jsonl", None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(folder / "events"))  # type: ignore[no-untyped-call]

    def note(self, run: Run, facts: dict[str, float], under: str) -> None:
        line = {"step": run.step, "minutes": round(run.elapsed / 60, 2), **{k: round(v, 6) for k, v in facts.items()}}
        with self.path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        for key, value in facts.items() if self.board else ():
            self.board.add_scalar(f"{under}/{key}", value, run.step)  # type: ignore[no-untyped-call, union-attr]

    def close(self) -> None:
        if self.board:
            self.board.close()  # type: ignore[no-untyped-call]


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second signal ends the process as ever."""
    asked = threading.Event()
    before: dict[int, Any] = {}

    def hear(number: int, _: Any) -> None:
        asked.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(run: Run, export: Path | None, tell: Tell = print, steps: int | None = None, workers: int = 0) -> None:
    """Train until the plan's minutes (or this many steps in all) are used up.

    Logs to `run.folder`; validates, saves and exports as it goes. SIGTERM and SIGINT save, export and leave.
    """
    log, last = Log(run.folder), run.progress >= 1 or (steps is not None and run.step >= steps)
    if run.together:
        run.together.begin(run.network)
    with asked_to_stop() as asked, Workers(run.task, run.plan.seed, run.plan.batch, run.step, workers) as ahead:
        while not (last or asked.is_set()):
            facts = run.train_step(ahead.next)
            last = run.progress >= 1 or (steps is not None and run.step >= steps)
            if run.step % 20 == 0 or last:
                log.note(run, {**facts, "loss": float(np.mean(run.recent))}, "training")
            if run.elapsed - run.looked > run.plan.every or last:
                run.looked = run.elapsed
                found = run.task.validate(run.average, run.device)
                log.note(run, found, "validation")
                shown = " ".join(f"{key} {value:.2f}" for key, value in found.items())
                tell(f"step {run.step} {run.elapsed / 60:.1f} min {shown}")
                leave(run, export)
        if not last:
            leave(run, export)
            tell(f"step {run.step} {run.elapsed / 60:.1f} min: asked to stop; saved, go on with --resume")
    if run.together:
        run.together.leave(run.network)
    log.close()


def follow(run: Run, together: Together, workers: int = 0) -> None:
    """Train with another process, which validates, saves and decides, until that one leaves; batches are other ones."""
    run.together = together
    together.begin(run.network)
    with Workers(run.task, run.plan.seed + 1_000_003 * together.rank, run.plan.batch, run.step, workers) as ahead:
        while not together.over:
            run.train_step(ahead.next)


def leave(run: Run, export: Path | None) -> None:
    """Checkpoint and, where wanted, export."""
    run.save()
    if export:
        run.export(export)
