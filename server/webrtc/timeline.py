"""Where on the session's timeline a packet lies: RTP's wrapped numbers, senders that begin anew, clocks that drift.

All numbers are samples at 48 kHz, the RTP clock of Opus (RFC 7587); `now` is a monotonic clock in that unit, handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.webrtc.delays import Delays

MS = 48
WINDOW = 2000 * MS  # of arrivals that tell how late packets come: what was before is forgotten
LEAP = 2000 * MS  # ahead of the clock, or
STALE = 10_000 * MS  # behind it: not the network's doing, the sender began anew
LATEST = 1000 * MS  # that the network may be: what is later says nothing about it
ALL_LATE = 1000 * MS  # nothing in time for so long, and no sign of catching up: as well


@dataclass(frozen=True, order=True)
class Packet:
    """`samples` of sound from `start` of the timeline, the `sequence`-th packet (unwrapped), which came at `came`."""

    start: int
    sequence: int
    samples: int
    payload: bytes
    came: int

    @property
    def end(self) -> int:
        return self.start + self.samples


class Timeline:
    """Begins at 0 with the first packet. A sender that begins anew (another SSRC, or timestamps that no network explains) goes
    on where the clock is meanwhile, so the session's time passes while nobody sends."""

    def __init__(self) -> None:
        self.delays = Delays(WINDOW)  # of a packet's last sample against its arrival
        self.jitter = 0  # RFC 3550, section 6.4.1, in 1/16 samples
        self._source: int | None = None
        self._sequence = self._timestamp = 0  # the newest, unwrapped
        self._sequences = self._origin = 0  # of which the timeline's 0 is
        self._came = self._transit = 0
        self._late: tuple[int, int] | None = None  # since when there is nothing in time, and how late the first was

    def place(
        self, sequence: int, timestamp: int, source: int, samples: int, payload: bytes, now: int, told: int, end: int
    ) -> Packet:
        """The packet, on the timeline of which `told` samples are told and packets up to `end` are there."""
        sequence, timestamp = _near(self._sequence, sequence, 16), _near(self._timestamp, timestamp, 32)
        if source != self._source or self._leaps(timestamp, samples, now, told):
            self._begin(sequence, timestamp, source, samples, now, max(told, end))
        if sequence >= self._sequence:
            self._sequence, self._timestamp, self._came = sequence, timestamp, now
        placed = Packet(timestamp - self._origin, sequence - self._sequences, samples, payload, now)
        self._measure(placed)
        self._late = None if placed.end > told else self._late or (now, now - placed.end)
        return placed

    def _leaps(self, timestamp: int, samples: int, now: int, told: int) -> bool:
        """Whether the sender cannot have come here from its last packet."""
        behind = told - (timestamp - self._origin + samples)
        if behind < 0:
            return timestamp - self._timestamp - (now - self._came) > LEAP
        return behind > STALE or self._stands(now, now - (timestamp - self._origin + samples))

    def _stands(self, now: int, delay: int) -> bool:
        """Whether the sender's time stood still for a while: all is late, and as late as the first was."""
        since, first = self._late or (now, delay)
        return now - since > ALL_LATE and first - delay < (now - since) // 10

    def _begin(self, sequence: int, timestamp: int, source: int, samples: int, now: int, end: int) -> None:
        clock = now - self.delays.least - samples if self._source is not None else 0
        start = max(end, clock)
        # The numbers go on from the last sender's, so nothing counts as lost between the two.
        self._sequences = sequence - (self._sequence - self._sequences + 1 if self._source is not None else 0)
        self._origin, self._source, self._late = timestamp - start, source, None
        self._sequence, self._timestamp, self._came, self._transit = sequence, timestamp, now, now - start

    def _measure(self, placed: Packet) -> None:
        transit = placed.came - placed.start
        if len(self.delays) and transit - placed.samples - self.delays.least > LATEST:
            return
        self.jitter += abs(transit - self._transit) - (self.jitter + 8 >> 4)
        self._transit = transit
        self.delays.add(placed.came, transit - placed.samples)


def _near(newest: int, wrapped: int, bits: int) -> int:
    """The number next to `newest` that ends in these bits."""
    half = 1 << bits - 1
    return newest + (wrapped - newest + half) % (2 * half) - half
