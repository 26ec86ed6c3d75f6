"""Where a stream that was cut off goes on: which input must be heard again, and which window comes first.

Nothing of the lost stream is kept but two numbers: how many samples were told, and (by the model) how many of the past
shape what it says. All positions are absolute on the timeline, so windows fall where they would have fallen, the
resamplers stand at the same phases, and a stateless model gives the very samples that the lost stream would have given.
"""

from __future__ import annotations

from dataclasses import dataclass

from streaming.plan import Plan
from streaming.resample import Ratio


@dataclass(frozen=True)
class Entry:
    """The way into a timeline that did not begin just now.

    Attributes:
        told: at the stream's rate: the first sample that is told.
        replay: at the stream's rate: the first sample that is heard, at most `told`.
        window: index of the first window.
        first: at the model's rate: the first sample that the windows hear.
    """

    told: int = 0
    replay: int = 0
    window: int = 0
    first: int = 0


BEGINNING = Entry()


def entry(plan: Plan, told: int, memory: int) -> Entry:
    """How to tell a stream from sample `told` on, after `memory` samples (at the model's rate) for the state to settle.

    The way back to the stream's rate needs model samples from `told * up/down - half + 1` on. Window k tells
    `[k*hop - delay, k*hop - delay + support)`, so the first window that tells any of those is the smallest k with
    `k*hop - delay + support > need`; it hears from `k*hop - context` on, and the way in needs `half` samples before.
    """
    into, back = Ratio(plan.rate, plan.model_rate), Ratio(plan.model_rate, plan.rate)
    framing = plan.framing
    need = told * back.down // back.up - max(back.half - 1, 0) - memory
    window = max((need + framing.delay - framing.support) // framing.hop + 1, 0)
    first = max(window * framing.hop - framing.context, 0)
    replay = max(first * into.down // into.up - max(into.half - 1, 0), 0)
    return Entry(told, min(replay, told), window, first)


def kept(plan: Plan, memory: int) -> int:
    """`told - replay` is never above this many samples at the stream's rate, wherever a stream is cut off."""
    into, back = Ratio(plan.rate, plan.model_rate), Ratio(plan.model_rate, plan.rate)
    framing = plan.framing
    return back.length(back.half + memory + framing.support + framing.context) + into.half + 1
