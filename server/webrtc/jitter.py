"""From packets as they come to a timeline without holes: what to decode, what to recover, what to invent, and when.

A loudspeaker has to be fed by the clock, so players hold every packet back by a target delay. A separator does not: a packet
that continues the timeline is released as it comes, and only behind a hole does anything wait, until the missing packet is
later than packets of late have been. So the buffer adds nothing while nothing is lost, and after a loss or a burst of jitter
it adds nothing again as soon as the hole is closed; what is then told faster than the clock is evened out where sound goes
out. No sample is dropped or repeated for delay's sake, ever. The sender's clock is the timeline, so there is no drift.

All numbers are samples at 48 kHz, the RTP clock of Opus (RFC 7587); `now` is a monotonic clock in that unit, handed in.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from server.webrtc import packet
from server.webrtc.timeline import MS, Packet, Timeline

FLOOR, CEILING = 20 * MS, 400 * MS  # of the wait for a missing packet beyond the least delay
UNKNOWN, FEW = 60 * MS, 50  # the floor until so many packets have shown what the network is like
# While nothing follows a hole either, the sender may only be held up: a longer wait, then silence by the clock. It costs
# nothing: a pause is filled at once by the packet that ends it, and sound that comes late is better than none.
PATIENCE = 400 * MS
STEP = 20 * MS  # of that silence
LONGEST = 1000 * MS  # of one gap's pieces
MOST_HELD = 1000  # packets; nobody takes them, so what comes is lost


@dataclass(frozen=True)
class Piece:
    """`samples` of the timeline from `start`: the decoded `payload` without its first `skip`; without a payload, a gap, at
    whose end the packet `following` may hold a copy of what is missing (in-band FEC)."""

    start: int
    samples: int
    payload: bytes | None = None
    skip: int = 0
    following: bytes | None = None


class JitterBuffer:
    """One sender's packets in, pieces out, which tile the timeline from 0 on: `start` is the sum of all samples before."""

    def __init__(self) -> None:
        self.told = 0  # samples of the timeline
        self.packets = self.lost = self.discarded = 0
        self.waited = 0  # by packets in here, averaged as jitter is, in 1/16 samples
        self._timeline = Timeline()
        self._held: list[Packet] = []
        self._next = 0  # the sequence number that would continue what is released

    def push(self, sequence: int, timestamp: int, payload: bytes, now: int, source: int = 0) -> None:
        """A packet as it came: 16-bit sequence number, 32-bit timestamp, SSRC. What is no Opus packet, came twice or too late
        counts as discarded."""
        self.packets += 1
        if not (samples := packet.samples(payload)) or len(self._held) >= MOST_HELD:
            self.discarded += 1
            return
        end = self._held[-1].end if self._held else 0
        placed = self._timeline.place(sequence, timestamp, source, samples, payload, now, self.told, end)
        if placed.end <= self.told or any(held.start == placed.start for held in self._held):
            self.discarded += 1
        else:
            insort(self._held, placed)

    def pull(self, now: int) -> list[Piece]:
        """Everything that is due by now."""
        pieces: list[Piece] = []
        while True:
            if self._held and self._held[0].start <= self.told:
                pieces += self._release(self._held.pop(0), now)
            elif (until := self._given_up(now)) > self.told:
                pieces.append(self._gap(until))
            else:
                return pieces

    def finish(self) -> list[Piece]:
        """The packets that still wait, and the gaps between them: nothing more will come."""
        pieces: list[Piece] = []
        while self._held:
            first = self._held[0]
            behind = first.start <= self.told
            pieces += self._release(self._held.pop(0), first.came) if behind else [self._gap(first.start)]
        return pieces

    def due(self) -> int | None:
        """When there will be something to pull even if nothing comes; None before the first packet."""
        if not self.packets or not len(self._timeline.delays):
            return None
        end = self.told + STEP + PATIENCE
        return self._timeline.delays.least + self.wait + (min(end, self._held[0].start) if self._held else end)

    @property
    def jitter(self) -> int:
        """RFC 3550, section 6.4.1."""
        return self._timeline.jitter >> 4

    @property
    def wait(self) -> int:
        """How long after the quickest packets of late a missing one is waited for. Of delays with long tails this lets one in
        200 be too late, and waiting costs something only while a packet is missing."""
        delays = self._timeline.delays
        floor = FLOOR if len(delays) >= FEW else UNKNOWN
        return min(max(delays.spread(97) * 3 // 2, floor), CEILING)

    def _release(self, first: Packet, now: int) -> list[Piece]:
        self.lost += max(first.sequence - self._next, 0)
        self._next = max(first.sequence + 1, self._next)
        self.waited += now - first.came - (self.waited + 8 >> 4)
        skip = self.told - first.start
        if skip >= first.samples:  # a packet that claims time which others filled
            self.discarded += 1
            return []
        piece = Piece(self.told, first.samples - skip, first.payload, skip)
        self.told = first.end
        return [piece]

    def _given_up(self, now: int) -> int:
        """Up to where what is missing will not be waited for any longer."""
        if not len(self._timeline.delays):
            return 0
        late = now - self._timeline.delays.least - self.wait
        silence = max(late - PATIENCE - self.told, 0)
        until = self.told + silence - silence % STEP
        if not self._held:
            return until
        following = self._held[0]
        # One that lacks no predecessor follows a pause: nothing will come in between.
        gone = following.sequence <= self._next or following.start <= late
        return following.start if gone else min(until, following.start)

    def _gap(self, until: int) -> Piece:
        until = min(until, self.told + LONGEST)
        following = self._held[0] if self._held else None
        copied = following is not None and following.start == until and following.sequence > self._next
        piece = Piece(self.told, until - self.told, following=following.payload if following and copied else None)
        self.told = until
        return piece
