"""Diarization error rate: how much of what was said is with the wrong person, with nobody, or was not said.

(NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", section 6.) No collar; overlapped speech
counts once for each who speaks. Exact in samples: between two boundaries nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streaming.matching import Scores, hungarian
from streaming.rttm import Segment


@dataclass(frozen=True)
class Errors:
    """In samples. `total`: speech of the reference. `names`: of the hypothesis, to those of the reference that they mean."""

    total: int = 0
    missed: int = 0
    false_alarm: int = 0
    confusion: int = 0
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Of a silent reference: 0, or infinite where something was said to be said."""
        wrong = self.missed + self.false_alarm + self.confusion
        return wrong / self.total if self.total else float("inf") if wrong else 0.0

    def __add__(self, other: Errors) -> Errors:
        """Of two recordings; the names of which have nothing to do with one another."""
        sums = (getattr(self, one) + getattr(other, one) for one in ("total", "missed", "false_alarm", "confusion"))
        return Errors(*sums)


def score(reference: Sequence[Segment], hypothesis: Sequence[Segment]) -> Errors:
    """The errors with each name of the hypothesis taken for the one of the reference that makes the fewest."""
    names = match(reference, hypothesis)
    total = missed = false_alarm = confusion = 0
    for length, said, told in together(reference, hypothesis):
        right = len(said & {names[one] for one in told if one in names})
        total += length * len(said)
        missed += length * max(len(said) - len(told), 0)
        false_alarm += length * max(len(told) - len(said), 0)
        confusion += length * (min(len(said), len(told)) - right)
    return Errors(total, missed, false_alarm, confusion, names)


def match(reference: Sequence[Segment], hypothesis: Sequence[Segment]) -> dict[str, str]:
    """One-to-one, so that they speak together the longest: names of the hypothesis to those of the reference.

    Who has nothing in common with anybody left is left out.
    """
    ours, theirs = _numbered(reference), _numbered(hypothesis)
    size = max(len(ours), len(theirs), 1)
    shared: Scores = np.zeros((size, size))
    for length, said, told in together(reference, hypothesis):
        for one in told:
            for other in said:
                shared[theirs[one], ours[other]] += length
    order, back = hungarian(shared), list(ours)
    return {name: back[order[n]] for name, n in theirs.items() if shared[n, order[n]] > 0}


def _numbered(segments: Sequence[Segment]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted({one.speaker for one in segments}))}


def together(
    reference: Iterable[Segment], hypothesis: Iterable[Segment]
) -> Iterator[tuple[int, frozenset[str], frozenset[str]]]:
    """(samples, who speaks by the one, who by the other), from boundary to boundary."""
    edges = [
        (sample, side, one.speaker, step)
        for side, segments in enumerate((reference, hypothesis))
        for one in segments
        if one.end > one.start
        for sample, step in ((one.start, 1), (one.end, -1))
    ]
    open: tuple[dict[str, int], dict[str, int]] = ({}, {})  # a name may overlap itself: once is enough
    at = 0
    for sample, side, name, step in sorted(edges):
        if sample > at and (open[0] or open[1]):
            yield sample - at, frozenset(open[0]), frozenset(open[1])
        at = sample
        open[side][name] = open[side].get(name, 0) + step
        if not open[side][name]:
            del open[side][name]
