"""Time in samples at 48 kHz, and when a packet leaves: as samples come, without their bursts."""

from __future__ import annotations

import time

from server.webrtc.delays import Delays

RATE = 48_000
WINDOW = RATE  # of arrivals that the pace looks back on: a model's hops and a second of the machine's moods
NEARLY_ALL = 90  # percent of the chunks; those that are later than that leave at once
CATCH_UP = 0.4 * RATE  # samples of time in which a cushion that is not needed any more shrinks to 1/e
FASTEST = 0.5  # above real time, while it shrinks: about what a player's buffer can speed up by


def now() -> int:
    """A monotonic clock, in samples at 48 kHz."""
    return time.monotonic_ns() * 6 // 125_000


class Pacer:
    """One for all tracks of a session: a packet from position `p` leaves at `p + delay`.

    The delay is that with which the first packet of a chunk became ready of late, nearly all of them: what is later than that
    leaves as it comes. So a model that tells half a second at once is sent evenly (its first packet at once, its last half a
    second later), a stall is waited out once, and the sender's clock, which the positions are counted in, is followed without
    being estimated: if it is slow, the delay grows with it; if it is fast, it shrinks. It shrinks smoothly: packets then leave
    somewhat faster than the clock, but none is left out.
    """

    def __init__(self) -> None:
        self._delays = Delays(WINDOW)
        self._delay: float | None = None
        self._at = 0

    def ready(self, position: int, now: int) -> None:
        """The packet there, and some that follow it, can leave from now on."""
        self._delays.add(now, now - position)
        self.delay(now)

    def delay(self, now: int) -> int:
        wanted = self._delays.share(NEARLY_ALL)
        if self._delay is None or wanted >= self._delay:
            self._delay = wanted
        else:
            excess, passed = self._delay - wanted, now - self._at
            self._delay -= min(excess * min(passed / CATCH_UP, 1), passed * FASTEST)
        self._at = now
        return round(self._delay)
