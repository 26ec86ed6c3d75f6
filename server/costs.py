"""What one run of a model costs on this machine: measured before anyone is promised anything, and kept for the next start."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models import weights
from models.rehearsal import WARM, rehearsed
from models.separator import Separator, Spec
from server.engine import LONG_S, MAX_BATCH, Engine, Lane
from streaming.framing import Array

log = logging.getLogger(__name__)
BATCHES = tuple(2**power for power in range(int(math.log2(MAX_BATCH)) + 1))
PATIENCE_S = 0.2  # a run that takes longer is not tried with a larger batch: there it is in proportion
KNOWN = "costs.json"


@dataclass(frozen=True)
class Costs:
    """Seconds of one run: `seconds[i][j]` of `batches[i][j]` windows of `windows[i]` samples, all ascending."""

    windows: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...]
    seconds: tuple[tuple[float, ...], ...]

    def run(self, window: int, batch: int = 1) -> float:
        """Seconds of a run: between what was measured by interpolation, beyond it in proportion."""
        of_windows = [_along(places, row, batch) for places, row in zip(self.batches, self.seconds, strict=True)]
        return _along(self.windows, of_windows, window)

    def lane(self, window: int) -> Lane:
        """Where such a window runs when somebody waits for it."""
        return "long" if self.run(window) > LONG_S else "short"


def _along(places: tuple[int, ...], values: tuple[float, ...] | list[float], at: int) -> float:
    if at > places[-1]:
        return values[-1] * at / places[-1]
    return float(np.interp(at, places, values))


async def costs(separator: Separator, engine: Engine) -> Costs:
    """As measured when these weights were first loaded on this machine, or else measured now, behind all who are live.

    Either way every part has run before anyone's sound comes: of models that tell speakers apart some run late and seldom, and
    the first run of a part may take as long as the rest of a chunk.
    """
    known = await engine.load(lambda: _recall(separator.spec))
    if known is not None:
        if hasattr(separator, "activity"):
            await engine.load(lambda: rehearsed(separator, WARM))
        return known
    spec = separator.spec
    windows = tuple(sorted({spec.windows[0], spec.windows[-1]})) if spec.windows else (spec.framing.window,)
    rows = [await _measure(separator, window, engine) for window in windows]
    measured = Costs(windows, tuple(tuple(row) for row in rows), tuple(tuple(row.values()) for row in rows))
    await engine.load(lambda: _remember(spec, measured))
    return measured


async def _measure(separator: Separator, window: int, engine: Engine) -> dict[int, float]:
    """Seconds by batch: the lower quartile of several runs, after one that warms up.

    Of models that tell speakers apart, late in a conversation: at its start and without speech a run costs a fifth.
    These are kept for long, so they are the machine's own speed; what others take of it just now is the watch's business.
    """
    found: dict[int, float] = {}
    state, pcm = await engine.load(lambda: _beginning(separator, window))
    for batch in BATCHES:
        warm = await _once(separator, state, pcm, batch, engine)
        runs = min(max(round(PATIENCE_S / warm), 3), 31)
        seconds = sorted([await _once(separator, state, pcm, batch, engine) for _ in range(runs)])
        found[batch] = max(seconds[(runs - 1) // 4], *found.values(), 0.0)  # a larger batch is never cheaper
        if found[batch] > PATIENCE_S:
            break
    return found


def _beginning(separator: Separator, window: int) -> tuple[Any, Array]:
    """A state, and a window `[C, W]` to run from there."""
    if hasattr(separator, "activity"):
        return rehearsed(separator)
    noise = np.random.default_rng(0).normal(0, 0.1, (separator.spec.channels, window)).astype(np.float32)
    return separator.start(), noise


async def _once(separator: Separator, state: Any, pcm: Array, batch: int, engine: Engine) -> float:
    results = await engine.infer_batch(separator, np.stack([pcm] * batch), [state] * batch, math.inf, "long")
    return max(result.computed for result in results)


def _recall(spec: Spec) -> Costs | None:
    known = _read(weights.cache(KNOWN)).get(_key(spec)) if spec.version else None
    if known is None:
        return None
    try:
        return Costs(tuple(known["windows"]), tuple(map(tuple, known["batches"])), tuple(map(tuple, known["seconds"])))
    except (KeyError, TypeError):  # of another version, or edited
        return None


def _remember(spec: Spec, measured: Costs) -> None:
    """Written whole and renamed; two servers that start at once may lose one another's figures, and measure again."""
    if not spec.version:
        return
    path = weights.cache(KNOWN)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(_read(path) | {_key(spec): asdict(measured)}, indent=1))
        fresh.replace(path)
    except OSError as error:
        log.warning("the measured costs could not be kept: %s", error)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _key(spec: Spec) -> str:
    """The weights, how they are cut, and the machine: another torch or processor has other costs."""
    cut = (spec.name, spec.version, spec.sources, spec.framing, spec.windows, spec.threads)
    return hashlib.sha256(repr((cut, _machine())).encode()).hexdigest()[:32]


@cache
def _machine() -> tuple[str, ...]:
    import torch

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    name = next((line for line in lines if line.startswith("model name")), platform.processor())
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    return (
        platform.machine(),
        name,
        str(os.cpu_count()),
        os.environ.get("OMP_NUM_THREADS", ""),
        torch.__version__,
        gpu,
    )
