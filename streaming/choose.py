"""Choosing a framing for a windowed model: as much context as the asked latency and the machine's speed leave room for.

A window of w samples costs the machine `cost(w)` seconds, whatever part of it is told. So the hop must be at least
`cost / UTILISATION` seconds, or the machine falls behind, and a sample waits at most for

    hop + fade + lookahead  (to be heard out)  +  MARGIN * cost  (to be computed).

A longer window is better separated and costs more of both; the longest that keeps the promise is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from streaming.framing import Framing

GENTLE, UTILISATION = 0.65, 0.8  # of the machine, by one session: wanted (others make runs a third slower), and at most
EASY = 0.4  # that, where nobody asked for a latency: a browser on the same machine makes runs twice as slow
MARGIN = 2.0  # a run may take this many times what was measured
TARGET = 4.0  # s, promised when nothing is asked for
FADE = 0.05  # s
CONTEXT = 4  # at least a quarter of the window is past audio: an edge is where a model errs
LOOKAHEAD = (0.1, 0.5)  # s: the least, and what more adds little to
HOP = (0.1, 1.0)  # s: the least, and what more saves little by


class Impossible(ValueError):
    """No window keeps the asked latency; `smallest` (s) is what one would keep."""

    def __init__(self, asked: float, smallest: float) -> None:
        super().__init__(f"got a latency of {asked:.3f} s, the smallest possible here is {smallest:.3f} s")
        self.smallest = smallest


class TooSlow(ValueError):
    """This machine cannot keep up with a live stream, whatever the latency."""


def frame(window: int, hop: int, lookahead: int, fade: int) -> Framing:
    """The framing of these samples; what is left of the window is context."""
    return Framing(window, hop, window - hop - fade - lookahead, lookahead)


def promised(framing: Framing, rate: int, cost: Callable[[int], float]) -> float:
    """Seconds by which every sample that was heard is told, computing included."""
    return framing.latency / rate + MARGIN * cost(framing.window)


def choose(windows: Sequence[int], rate: int, cost: Callable[[int], float], latency: float | None = None) -> Framing:
    """The framing with the longest of `windows` (samples) that keeps `latency` (s), else `TARGET` or the nearest to it.

    Room that the asked latency leaves goes to lookahead first (quality), then to the hop (fewer runs). Where it cannot be
    kept gently it is kept with all that one session may have of the machine.

    Raises:
        Impossible: a latency below what any window keeps.
        TooSlow: no window can be computed as fast as it fills.
    """
    try:
        return _choose(windows, rate, cost, latency, GENTLE)
    except (Impossible, TooSlow):
        return _choose(windows, rate, cost, latency, UTILISATION)


def _choose(
    windows: Sequence[int], rate: int, cost: Callable[[int], float], latency: float | None, share: float
) -> Framing:
    tightest = [framing for window in windows if (framing := _tightest(window, rate, cost(window), share))]
    if not tightest:
        raise TooSlow(
            f"a window of {windows[-1] / rate:.1f} s takes {cost(windows[-1]):.1f} s here: too slow to be live"
        )
    smallest = min(promised(framing, rate, cost) for framing in tightest)
    if latency is not None and latency < smallest:
        raise Impossible(latency, smallest)
    budget = max(latency or TARGET, smallest)
    framing = [framing for framing in tightest if promised(framing, rate, cost) <= budget][-1]
    # Unasked, a fast machine is not slowed down to the target: half a second of hop is cheap enough.
    hop = HOP[1] if latency is not None else min(max(HOP[1] / 2, cost(framing.window) / EASY), HOP[1])
    return _stretched(framing, rate, int((budget - promised(framing, rate, cost)) * rate), hop)


def several(framing: Framing, hops: int) -> Framing:
    """The framing of a stateful model, so many hops at a time: the same samples, later, for fewer runs."""
    hop = framing.hop * hops
    return Framing(hop, hop, delay=framing.delay)


def unhurried(framing: Framing, windows: Sequence[int], rate: int) -> Framing:
    """How to cut a file: nobody waits, so take few and large windows.

    A stateful model gives the same samples for any multiple of its hop: about a second at a time. A windowed one gets its
    longest window, an eighth of context on both sides and as much to cross-fade.
    """
    if not windows:
        return several(framing, max(1, rate // framing.hop))
    edge = windows[-1] // 8
    return Framing(windows[-1], hop=windows[-1] - 3 * edge, context=edge, lookahead=edge)


def _tightest(window: int, rate: int, seconds: float, share: float) -> Framing | None:
    """The least latency of this window, or None where the machine cannot keep up with it at all."""
    hop, fade, lookahead = (
        round(max(seconds / share, HOP[0]) * rate),
        round(FADE * rate),
        round(LOOKAHEAD[0] * rate),
    )
    keeps_up = window - hop - fade - lookahead >= window // CONTEXT
    return frame(window, hop, lookahead, fade) if keeps_up else None


def _stretched(framing: Framing, rate: int, spare: int, hop: float) -> Framing:
    """The same window with `spare` samples of latency spent, on a hop of up to so many seconds."""
    room = framing.context - framing.window // CONTEXT
    more = min(max(round(LOOKAHEAD[1] * rate) - framing.lookahead, 0), spare, room)
    framing = replace(framing, lookahead=framing.lookahead + more, context=framing.context - more)
    more = min(max(round(hop * rate) - framing.hop, 0), spare - more, room - more)
    return replace(framing, hop=framing.hop + more, context=framing.context - more)
