"""Who may come in: as many as the machine can keep its promises to, by what was measured, and nobody beyond.

Sessions whose windows may run together are a group: same model, same window, same lane. Of a group with n sessions one run
of the batch takes r(n) seconds, measured, and happens every `period`. A session is let in when, with it inside,

- every session has its windows back in time: the batch that runs when its last sample comes, then one run of every
  group in its lane, then the event loop's share for everybody's chunk, stretched by how busy the event loop is (as the wait
  in an M/D/1 queue), are within what its promise leaves for computing;
- no lane is busy for more than `LANE` of the time, the event loop for more than `LOOP`, all cores for more than `MACHINE`.

Both hold the measured costs against the clock: `Load` says how much slower runs are now than when they were measured, how
much of the cores others take, and what a chunk costs the event loop. And if promises are being broken in spite of all
this, nobody comes in until they are not.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.costs import Costs
from server.engine import MAX_BATCH, Lane
from streaming.wire import ClientError

LANE, LOOP, MACHINE = 0.85, 0.6, 0.9  # shares of the time
EAGER = 0.5  # of the time: what a lane of small models is busy for, from 8 to 32 sessions alike (measured)
RETRY_MS = 5000  # about how long it takes until somebody leaves; spread, so that not all come back at once


@dataclass(frozen=True)
class Group:
    """Sessions whose windows may run together. `period` s from window to window, `window` samples, `cores` used by a run."""

    name: str
    costs: Costs
    window: int
    period: float
    lane: Lane
    cores: int = 1

    def run(self, sessions: int) -> float:
        """Seconds for the windows of so many sessions, in as many batches as that takes."""
        full, rest = divmod(sessions, MAX_BATCH)
        return full * self.costs.run(self.window, MAX_BATCH) + (self.costs.run(self.window, rest) if rest else 0.0)


@dataclass(frozen=True)
class Demand:
    """One session: its group, and `allowance`, the seconds that its promise leaves between hearing and telling."""

    group: Group
    allowance: float


@dataclass
class Load:
    """What the clock says, kept up to date by the watch (server/watch.py).

    Attributes:
        slower: how much longer runs take, by lane, than when they were measured; at least 1.
        chunk_s: seconds of the event loop for one chunk of one session, from the packets to the stems.
        late: the share of chunks that lately left later than promised.
        others: the share of all cores that other processes take.
    """

    slower: dict[Lane, float]
    chunk_s: float
    late: float = 0.0
    others: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """How it would be: shares of the time that lanes, the loop and all cores are busy; and by how much who would be late."""

    lanes: dict[Lane, float]
    loop: float
    machine: float
    worst: float  # s over its allowance of the session that is worst off; negative when all are in time
    whose: str

    def refusal(self) -> str | None:
        """Why not; None if it is fine."""
        for lane, share in self.lanes.items():
            if share > LANE:
                return f"the models would be computing {share:.0%} of the time (at most {LANE:.0%} in lane {lane})"
        if self.loop > LOOP:
            return f"the event loop would be busy {self.loop:.0%} of the time (at most {LOOP:.0%})"
        if self.machine > MACHINE:
            return f"all cores would be busy {self.machine:.0%} of the time (at most {MACHINE:.0%})"
        if self.worst > 0:
            return f"a session of {self.whose} would be {self.worst * 1000:.1f} ms later than promised"
        return None


class Admission:
    """Who is inside, and whether one more fits. Of one event loop."""

    def __init__(self, load: Load, most: int, most_files: int, measured: bool = True, cores: int | None = None) -> None:
        """`most` live sessions and `most_files` files at once, whatever the machine could do; unless `measured`, no fewer."""
        self.load, self.files, self._measured = load, 0, measured
        self._most, self._most_files = most, most_files
        self._cores = cores or os.cpu_count() or 1
        self._inside: Counter[Demand] = Counter()
        self._full_at = math.inf  # sessions inside when somebody was last refused

    @property
    def inside(self) -> int:
        return self._inside.total()

    @contextmanager
    def seat(self, demand: Demand | None) -> Iterator[None]:
        """A place for a live session, or (None) for a file, held while this is open.

        Raises:
            ClientError: `capacity`, with why, and when to try again.
        """
        with self._file() if demand is None else self._live(demand):
            yield

    @contextmanager
    def _file(self) -> Iterator[None]:
        """Files take what is left, however many they are: what bounds them is memory."""
        if self.files >= self._most_files:
            reason = f"all {self._most_files} places for files are taken: try again later"
            raise ClientError("capacity", reason, retry_after_ms=_later())
        self.files += 1
        try:
            yield
        finally:
            self.files -= 1

    @contextmanager
    def _live(self, demand: Demand) -> Iterator[None]:
        if reason := self.refusal(demand):
            self._full_at = self.inside
            if not self.inside:
                raise ClientError("capacity", f"{demand.group.name} is too slow on this machine: {reason}")
            raise ClientError("capacity", f"{reason}: try again later", retry_after_ms=_later())
        self._inside[demand] += 1
        try:
            yield
        finally:
            self._inside[demand] -= 1
            self._inside += Counter()  # forgets those who are none

    def refusal(self, demand: Demand) -> str | None:
        """Why a session like this cannot come in now; None if it can."""
        if self.inside >= self._most:
            return f"all {self._most} sessions are taken"
        if not self._measured:
            return None
        if self.inside and self.load.late > 0.01:
            return f"{self.load.late:.0%} of what is told just now is later than promised"
        # Figures waver: after a refusal, and before anybody has left, there must be room for two.
        return self.forecast(demand, 2 if self.inside >= self._full_at else 1).refusal()

    def free(self, demand: Demand) -> int:
        """How many more like this would be let in now."""
        if self.refusal(demand):
            return 0
        low, high = 1, self._most - self.inside + 1  # `low` fit, `high` do not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.forecast(demand, middle).refusal() else (middle, high)
        return low

    def forecast(self, demand: Demand | None = None, count: int = 1) -> Forecast:
        """With so many more inside."""
        inside = self._inside + Counter({demand: count} if demand else {})
        groups: Counter[Group] = Counter()
        for one, sessions in inside.items():
            groups[one.group] += sessions
        runs = {group: self._run(group, sessions) for group, sessions in groups.items()}
        lanes: dict[Lane, float] = {}
        for group, seconds in runs.items():
            lanes[group.lane] = lanes.get(group.lane, 0.0) + seconds / group.period
        loop = sum(self.load.chunk_s * sessions / group.period for group, sessions in groups.items())
        machine = loop + sum(group.cores * self._share(group, groups[group]) for group in groups)
        telling = self.load.chunk_s * inside.total() * (1 + loop / max(2 * (1 - loop), 0.01))
        worst, whose = max(
            ((self._computed(one.group, groups, runs) + telling - one.allowance, one.group.name) for one in inside),
            default=(-math.inf, ""),
        )
        return Forecast(lanes, loop, machine / self._cores + self.load.others, worst, whose)

    def _run(self, group: Group, sessions: int) -> float:
        return self.load.slower[group.lane] * group.run(sessions)

    def _share(self, group: Group, sessions: int) -> float:
        """Of the time that the group's lane will really run. Windows that come one by one run one by one while the lane
        has nothing else to do; batches grow only when it has, so that below `EAGER` it is busy for nothing."""
        alone = sessions * self._run(group, 1) / group.period
        return max(self._run(group, sessions) / group.period, min(alone, EAGER))

    def _computed(self, group: Group, groups: Counter[Group], runs: dict[Group, float]) -> float:
        """Seconds from a window's last sample to its result, when everything comes at the worst moment.

        Groups with a longer period have later deadlines and give way, but a run of theirs that has begun does not; nor
        does one of its own group, without it.
        """
        lane = [(other, seconds) for other, seconds in runs.items() if other.lane == group.lane]
        others = [seconds for other, seconds in lane if other != group]
        running = max(self._run(group, groups[group] - 1), *others, 0.0)
        before = sum(seconds for other, seconds in lane if other.period <= group.period)
        return running + before


def _later() -> int:
    return round(RETRY_MS * random.uniform(0.6, 1.4))
