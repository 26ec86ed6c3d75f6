"""Batches drawn ahead: the same ones in the same order, and whoever fails is heard."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from models.training.workers import Batch, Workers, drawn


class Numbers:
    """Batches that show what they were drawn with; number 5 fails, number 7 ends the process."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        found = rng.integers(1000, size=size)
        for step, way in ((5, "fail"), (7, "end")):
            if np.array_equal(found, np.random.default_rng((9, step)).integers(1000, size=size)):
                if way == "fail":
                    raise ArithmeticError("the fifth is bad")
                os._exit(3)
        return found, self.table[found % len(self.table)]


def test_workers_draw_the_same_batches_in_the_same_order_and_their_failures_surface(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.arange(50.0))
    task = Numbers(np.load(tmp_path / "table.npy", mmap_mode="r"))
    with Workers(task, 9, 6, first=2, workers=2) as ahead:
        for step in (2, 3, 4):
            for mine, theirs in zip(drawn(task, 9, step, 6), ahead.next(), strict=True):
                np.testing.assert_array_equal(mine, theirs)
        for _ in range(2):  # nothing more will come, however often one asks
            with pytest.raises(RuntimeError, match=r"(?s)worker 1 failed.*in batch.*ArithmeticError: the fifth is bad"):
                ahead.next()
    with Workers(task, 9, 6, first=6, workers=1) as ahead:
        ahead.next()
        with pytest.raises(RuntimeError, match="worker 0 ended with exit code 3"):
            ahead.next()
    assert not multiprocessing.active_children()
    with pytest.raises(ValueError, match="got -1 workers"):
        Workers(task, 9, 6, workers=-1)


class Gone:
    """A task that cannot be unpickled: its bank is away."""

    def __init__(self, path: Path, way: str) -> None:
        self.path, self.way = path, way
        self.weight = b"0" * 10_000_000  # longer than any pipe holds

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        return (np.zeros(size),)

    def __setstate__(self, state: dict[str, object]) -> None:
        if state["way"] == "end":
            os._exit(4)
        raise FileNotFoundError(f"{state['path']}: no such bank")


def test_a_worker_that_cannot_take_its_task_is_heard_and_never_waited_for(tmp_path: Path) -> None:
    with Workers(Gone(tmp_path / "bank.npy", "fail"), 9, 6, workers=1) as ahead:
        with pytest.raises(RuntimeError, match=r"(?s)worker 0 failed.*bank.npy: no such bank"):
            ahead.next()
    with pytest.raises(RuntimeError, match="worker 0 ended with exit code 4"):
        with Workers(Gone(tmp_path, "end"), 9, 6, workers=1) as ahead:
            ahead.next()
    assert not multiprocessing.active_children()


def test_signals_to_the_whole_group_leave_workers_to_the_loop() -> None:
    with Workers(Numbers(np.arange(9.0)), 9, 6, workers=1) as ahead:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(ahead.processes[0].pid, number)  # still importing
        np.testing.assert_array_equal(ahead.next()[0], drawn(ahead.task, 9, 0, 6)[0])
        os.kill(ahead.processes[0].pid, signal.SIGTERM)
        np.testing.assert_array_equal(ahead.next()[0], drawn(ahead.task, 9, 1, 6)[0])


def test_a_mapped_bank_travels_to_workers_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "bank.npy", np.arange(100_000).reshape(2, -1))
    bank = np.load(tmp_path / "bank.npy", mmap_mode="r")
    sent = bytes(ForkingPickler.dumps(bank))
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent), bank)
    part = pickle.loads(bytes(ForkingPickler.dumps(bank[1:, 7:9])))
    np.testing.assert_array_equal(part, bank[1:, 7:9])
