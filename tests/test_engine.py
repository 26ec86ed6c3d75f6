"""The engine: batches by itself, earliest deadline first, nothing to the wrong session."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models import toys
from server.engine import Engine, Run
from streaming.framing import Array


class Gate:
    """A real separator that waits for a word before each run, and writes down what it was given."""

    def __init__(self) -> None:
        self.inner = toys.Split()
        self.spec = self.inner.spec
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[float]] = []

    def start(self) -> None:
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        self.entered.set()
        assert self.open.wait(10)
        if np.isnan(pcm).any():
            raise ArithmeticError("poison")
        self.batches.append(pcm[:, 0, 0].tolist())
        return self.inner.run(pcm, states)


def pcm(value: float) -> Array:
    return np.full((1, 160), value, np.float32)


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 10)


async def test_what_waits_while_one_runs_is_the_next_batch_by_deadline(engine: Engine) -> None:
    gate = Gate()
    first = asyncio.create_task(engine.infer(gate, pcm(1), None, deadline=9))
    await entered(gate)
    later = [asyncio.create_task(engine.infer(gate, pcm(value), None, deadline=-value)) for value in (2, 3, 4)]
    await asyncio.sleep(0)
    gate.open.set()
    results = await asyncio.gather(first, *later)
    assert gate.batches == [[1], [4, 3, 2]]
    for value, result in zip((1, 2, 3, 4), results, strict=True):
        np.testing.assert_array_equal(result.stems[1], pcm(value) * np.float32(0.75))
    assert [result.batch for result in results] == [1, 3, 3, 3]


async def test_models_and_shapes_do_not_mix(engine: Engine) -> None:
    gate, other = Gate(), Gate()
    first = asyncio.create_task(engine.infer(gate, pcm(1), None, 0))
    await entered(gate)
    rest = [
        asyncio.create_task(engine.infer(gate, pcm(2), None, 1)),
        asyncio.create_task(engine.infer(other, pcm(3), None, 2)),
        asyncio.create_task(engine.infer(gate, pcm(4)[:, :80], None, 3)),
    ]
    await asyncio.sleep(0)
    gate.open.set()
    other.open.set()
    await asyncio.gather(first, *rest)
    assert (gate.batches, other.batches) == ([[1], [2], [4]], [[3]])


async def test_a_cancelled_session_is_neither_run_nor_answered(engine: Engine) -> None:
    gate = Gate()
    first = asyncio.create_task(engine.infer(gate, pcm(1), None, 0))
    await entered(gate)
    second = asyncio.create_task(engine.infer(gate, pcm(2), None, 1))
    third = asyncio.create_task(engine.infer(gate, pcm(3), None, 2))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    gate.open.set()
    result = await third
    assert gate.batches == [[1], [3]]
    np.testing.assert_array_equal(result.stems[0], pcm(3) * np.float32(0.25))


async def test_one_sessions_failure_is_its_own(engine: Engine) -> None:
    gate = Gate()
    first = asyncio.create_task(engine.infer(gate, pcm(1), None, 0))
    await entered(gate)
    rest = [asyncio.create_task(engine.infer(gate, pcm(value), None, 1)) for value in (2, float("nan"), 3)]
    await asyncio.sleep(0)
    gate.open.set()
    await first
    good, bad, also_good = await asyncio.gather(*rest, return_exceptions=True)
    assert isinstance(bad, ArithmeticError)
    assert not isinstance(good, BaseException)
    assert not isinstance(also_good, BaseException)
    np.testing.assert_array_equal(also_good.stems[1], pcm(3) * np.float32(0.75))


async def test_closing_cancels_who_waits_and_refuses_who_comes() -> None:
    engine, gate = Engine(), Gate()
    first = asyncio.create_task(engine.infer(gate, pcm(1), None, 0))
    await entered(gate)
    second = asyncio.create_task(engine.infer(gate, pcm(2), None, 0))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    while not engine._lanes["short"]._closed:
        await asyncio.sleep(0.001)
    gate.open.set()
    await closing
    with pytest.raises(asyncio.CancelledError):
        await second
    await first
    with pytest.raises(RuntimeError, match="closed"):
        await engine.infer(gate, pcm(3), None, 0)


async def test_a_lane_that_is_busy_holds_up_no_other(engine: Engine) -> None:
    gate = Gate()
    long = asyncio.create_task(engine.infer(gate, pcm(1), None, 0, "long"))
    await entered(gate)
    assert engine.waiting() == {"short": 0, "long": 0, "spare": 0}
    behind = asyncio.create_task(engine.infer(gate, pcm(2), None, 0, "long"))
    for lane in ("short", "spare"):
        result = await asyncio.wait_for(engine.infer(toys.Split(), pcm(3), None, 0, lane), 60)  # type: ignore[arg-type]
        np.testing.assert_array_equal(result.stems[0], pcm(3) * np.float32(0.25))
    assert engine.waiting()["long"] == 1
    gate.open.set()
    await asyncio.gather(long, behind)
    assert engine.busy()["long"] > 0


async def test_rows_that_come_together_run_together_and_are_reported() -> None:
    runs: list[Run] = []
    engine = Engine(runs.append)
    rows = np.stack([pcm(value) for value in range(5)])
    results = await engine.infer_batch(toys.Split(), rows, [None] * 5, time.monotonic() + 60, "short")
    late = await engine.infer_batch(toys.Split(), rows[:2], [None] * 2, time.monotonic() - 1, "spare")
    engine.close()
    assert [result.batch for result in (*results, *late)] == [5] * 5 + [2] * 2
    told = sorted((run.lane, run.window, run.batch, run.late) for run in runs)  # lanes have threads of their own
    assert told == [("short", 160, 5, 0), ("spare", 160, 2, 2)]


async def test_states_follow_their_sessions(engine: Engine) -> None:
    """Twenty sessions of a model with memory, all at once and interleaved: each as if alone."""
    model = toys.Leaky()

    async def session(seed: int) -> list[Array]:
        rng, state, out = np.random.default_rng(seed), model.start(), []
        for _ in range(20):
            result = await engine.infer(model, rng.standard_normal((2, 64)).astype(np.float32), state, 0)
            state = result.state
            out.append(result.stems)
            await asyncio.sleep(0)
        return out

    together = await asyncio.gather(*(session(seed) for seed in range(20)))
    for seed in (0, 7, 19):
        np.testing.assert_allclose(np.stack(together[seed]), np.stack(await session(seed)), atol=1e-6)
