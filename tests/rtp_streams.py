"""A sender, a network with knobs, and a receiver that is driven by their events: whole minutes in a moment."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from server.webrtc.jitter import JitterBuffer, Piece

MS = 48
BASE = 20 * MS  # the quickest way through the network


def opus(samples: int, tag: int) -> bytes:
    """A packet header that says so many samples (960 and less: CELT; more: several frames), and a tag to know it by."""
    if samples <= 960:
        return bytes([(28 + (120, 240, 480, 960).index(samples)) << 3]) + tag.to_bytes(4, "big")
    return bytes([31 << 3 | 3, samples // 960]) + tag.to_bytes(4, "big")


@dataclass(frozen=True)
class Sent:
    """A packet on its way: when it arrives, and where its sound lies on the sender's timeline."""

    arrives: int
    sequence: int
    timestamp: int
    payload: bytes
    position: int
    samples: int
    source: int = 1


def sender(
    packets: int, samples: int = 960, sequence: int = 65_500, timestamp: int = 2**32 - 30_000, first: int = 0,
    at: int = 0, drift: float = 0.0, source: int = 1,
) -> list[Sent]:  # fmt: skip
    """A steady sender's packets, on time: each leaves when its last sample was said."""
    return [
        Sent(
            at + round((k + 1) * samples * (1 + drift)) + BASE,
            sequence + k,
            timestamp + k * samples,
            opus(samples, first + k),
            k * samples,
            samples,
            source,
        )
        for k in range(packets)
    ]


def network(packets: Iterable[Sent], seed: int = 0, loss: float = 0.0, jitter: int = 0, burst: int = 1) -> list[Sent]:
    """Loses that share of packets, in runs of `burst`, and delays each by up to `jitter`."""
    chance, out, gone = random.Random(seed), [], 0
    for one in packets:
        gone = burst if not gone and chance.random() < loss / burst else gone
        if gone:
            gone -= 1
            continue
        late = chance.randint(0, jitter)
        out.append(
            Sent(one.arrives + late, one.sequence, one.timestamp, one.payload, one.position, one.samples, one.source)
        )
    return out


@dataclass(frozen=True)
class Told:
    """A piece, and when it was told."""

    when: int
    piece: Piece

    @property
    def end(self) -> int:
        return self.piece.start + self.piece.samples


def receive(
    packets: Iterable[Sent], until: int | None = None, buffer: JitterBuffer | None = None
) -> tuple[JitterBuffer, list[Told]]:
    """Push each packet as it arrives and pull at every time that the buffer asks for; then nothing more until `until`."""
    buffer, told = buffer or JitterBuffer(), []

    def wake(before: int) -> None:
        while (due := buffer.due()) is not None and due <= before:
            pieces = buffer.pull(due)
            assert pieces, "asked to be pulled, and had nothing"
            told.extend(Told(due, piece) for piece in pieces)

    for one in sorted(packets, key=lambda one: one.arrives):
        wake(one.arrives)
        buffer.push(one.sequence % 2**16, one.timestamp % 2**32, one.payload, one.arrives, one.source)
        told.extend(Told(one.arrives, piece) for piece in buffer.pull(one.arrives))
    if until is not None:
        wake(until)
    return buffer, told


def tiles(told: Iterable[Told]) -> int:
    """Asserts that the pieces follow one another from 0; their end."""
    end = 0
    for one in told:
        assert one.piece.start == end
        assert one.piece.samples > 0
        end = one.end
    return end
