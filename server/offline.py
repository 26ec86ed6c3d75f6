"""A file through the same pipeline as a live stream, without a server: the model is called where it stands."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from models import threads
from models.separator import Separator
from server.costs import Costs
from server.files import Source
from server.promise import promise
from server.shelf import Loaded
from streaming import mix, pipeline
from streaming.choose import unhurried
from streaming.framing import Array, Framing
from streaming.plan import Plan
from streaming.wire import ClientError


def live_framing(separator: Separator, latency_ms: float) -> Framing:
    """How a server on this machine would cut a live stream of this latency, to hear what that costs in quality.

    Raises:
        ValueError: a latency that is not possible here.
    """
    spec = separator.spec
    windows = (spec.windows[0], spec.windows[-1]) if spec.windows else (spec.framing.window,)
    seconds = tuple((_seconds(separator, window),) for window in windows)
    model = Loaded(spec.name, separator, Costs(windows, ((1,),) * len(windows), seconds))
    try:
        return promise(model, spec.rate, latency_ms / 1000).plan.framing
    except ClientError as error:
        raise ValueError(error.message) from None


def real_time_factor(separator: Separator) -> float:
    """Seconds of computing a second of audio, as the model's default framing cuts it."""
    framing = separator.spec.framing
    return _seconds(separator, framing.window) * separator.spec.rate / framing.hop


def _seconds(separator: Separator, window: int) -> float:
    """One run on noise: the middle of several after one that warms up."""
    threads.use(separator.spec.threads)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, separator.spec.channels, window)).astype(np.float32)
    states, taken = [separator.start()], []
    for _ in range(4 if window > separator.spec.rate else 50):
        began = time.perf_counter()
        _, states = separator.run(noise, states)
        taken.append(time.perf_counter() - began)
    return sorted(taken[1:])[len(taken[1:]) // 2]


async def separate(
    source: Source, separator: Separator, names: Sequence[str] | None = None, latency_ms: float | None = None
) -> AsyncIterator[dict[str, Array]]:
    """A recording to `{name: [C, T]}` parts that follow one another; as many samples out as in.

    The first part is empty, so that an empty recording gives empty stems. NaN and Inf are silenced.

    Raises:
        ValueError: a name that the model does not have.
    """
    spec = separator.spec
    names = names or spec.sources
    rows = mix.matrix(spec.sources, names)
    channels = min(source.channels, spec.channels)
    cut = live_framing(separator, latency_ms) if latency_ms else unhurried(spec.framing, spec.windows, spec.rate)
    threads.use(spec.threads)

    async def heard() -> AsyncIterator[Array]:
        for pcm in source.chunks():
            yield mix.fit(np.nan_to_num(pcm, nan=0.0, posinf=0.0, neginf=0.0), spec.channels)

    async def infer(pcm: Array, state: Any) -> tuple[Array, Any]:
        stems, states = separator.run(pcm[None], [state])
        return stems[0], states[0]

    yield dict.fromkeys(names, np.zeros((channels, 0), np.float32))
    plan = Plan(source.rate, spec.channels, spec.rate, cut)
    async for chunk in pipeline.stream(heard(), plan, infer, separator.start()):
        outputs = mix.fit(np.asarray(np.einsum("os,sct->oct", rows, chunk.stems), np.float32), channels)
        yield dict(zip(names, outputs, strict=True))
