"""How the machine keeps up, second by second: what the door goes by, and what `/metrics` shows."""

from __future__ import annotations

import asyncio
import os
import time

from server.admission import Load
from server.costs import Costs
from server.engine import NICE, Engine, Run
from server.metrics import Metrics

CHUNK_S = 0.0003  # s of the event loop for a chunk, before any was measured
IDLE = 0.04  # s a second that the event loop takes for itself: timers, and waking up for few sessions
DEAREST = 4  # times that: what comes and goes at the door is not a chunk's fault
FADE = 0.9  # of what was known a second ago counts on: a memory of about 10 s
FEW = 100  # chunks, or runs, that say nothing yet


class Watch:
    """Counts what lanes and sessions report, and once a second makes a `Load` of it."""

    def __init__(self, metrics: Metrics) -> None:
        self.load = Load(dict.fromkeys(NICE, 1.0), CHUNK_S)
        self._metrics = metrics
        self._costs: dict[int, Costs] = {}
        self._taken = dict.fromkeys(NICE, 0.0)  # s that runs took, fading
        self._expected = dict.fromkeys(NICE, 0.0)  # s that they should have taken
        self._runs = dict.fromkeys(NICE, 0.0)
        self._chunks = self._late = self._cpu = 0.0
        self._machine = Machine()

    def knows(self, separator: object, costs: Costs) -> None:
        """What runs of this separator should take."""
        self._costs[id(separator)] = costs

    def forgets(self, separator: object) -> None:
        self._costs.pop(id(separator), None)

    def ran(self, run: Run) -> None:
        """What the engine reports; each lane from its own thread, and no two write the same figure."""
        self._metrics.ran(run)
        if costs := self._costs.get(id(run.separator)):
            self._taken[run.lane] += run.seconds
            self._expected[run.lane] += costs.run(run.window, run.batch)
            self._runs[run.lane] += 1

    def told(self, late: bool) -> None:
        """A chunk of a live session left, after its promise or in time."""
        self._chunks += 1
        self._late += late

    async def run(self, engine: Engine, every: float = 1.0) -> None:
        """For ever."""
        busy, cpu, at = engine.busy(), time.thread_time(), time.monotonic()
        while True:
            await asyncio.sleep(every)
            spent = time.monotonic() - at
            self._metrics.utilised({lane: (after - busy[lane]) / spent for lane, after in engine.busy().items()})
            self._metrics.waits(engine.waiting(), len(asyncio.all_tasks()))
            self._cpu = FADE * self._cpu + time.thread_time() - cpu
            self.load.others = FADE * self.load.others + (1 - FADE) * self._machine.others()
            self._judge()
            busy, cpu, at = engine.busy(), time.thread_time(), time.monotonic()

    def _judge(self) -> None:
        if self._chunks > FEW:
            cpu = max(self._cpu - IDLE / (1 - FADE), 0.0)
            self.load.chunk_s = min(max(cpu / self._chunks, CHUNK_S / DEAREST), DEAREST * CHUNK_S)
        self.load.late = self._late / self._chunks if self._chunks > FEW else 0.0
        for lane in NICE:
            known = self._runs[lane] > FEW or self._expected[lane] > 1.0
            self.load.slower[lane] = max(1.0, self._taken[lane] / self._expected[lane]) if known else 1.0
            self._taken[lane] *= FADE
            self._expected[lane] *= FADE
            self._runs[lane] *= FADE
        self._chunks *= FADE
        self._late *= FADE


class Machine:
    """What other processes, and other machines on the same hardware, take of all cores."""

    def __init__(self) -> None:
        self._before = self._now()

    def others(self) -> float:
        """The share of all cores since the last call; 0 where the system does not say (`/proc/stat`)."""
        (busy_before, all_before, own_before), now = self._before, self._now()
        self._before = busy, all_, own = now
        if all_ <= all_before:
            return 0.0
        return min(max((busy - busy_before - (own - own_before)) / (all_ - all_before), 0.0), 1.0)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds of all cores: busy (stolen ones too), all, and of this process."""
        try:
            with open("/proc/stat") as file:
                ticks = [int(value) for value in file.readline().split()[1:9]]
        except OSError:
            return 0.0, 0.0, 0.0
        idle = ticks[3] + ticks[4]
        second = os.sysconf("SC_CLK_TCK")
        return (sum(ticks) - idle) / second, sum(ticks) / second, time.process_time()


async def watch_loop(metrics: Metrics, every: float = 0.05) -> None:
    """How late the event loop is, for `/metrics`."""
    while True:
        asked = time.monotonic()
        await asyncio.sleep(every)
        metrics.loop_lag.observe(max(time.monotonic() - asked - every, 0))
