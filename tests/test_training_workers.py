"""Batches drawn ahead: the same ones in the same order, and whoever fails is heard."""

from __future__ import annotations

import multiprocessing
import os
import pickle
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


def test_a_mapped_bank_travels_to_workers_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "bank.npy", np.arange(100_000).reshape(2, -1))
    bank = np.load(tmp_path / "bank.npy", mmap_mode="r")
    sent = bytes(ForkingPickler.dumps(bank))
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent), bank)
    part = pickle.loads(bytes(ForkingPickler.dumps(bank[1:, 7:9])))
    np.testing.assert_array_equal(part, bank[1:, 7:9])
