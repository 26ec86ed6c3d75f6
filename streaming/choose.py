"""Choosing how a windowed model cuts time, from what one window costs on this machine.

A window of W samples is heard whole, costs `cost(W)` seconds and tells `hop` samples. Two things bind the hop:

    keeping up   cost / utilisation <= hop        one window at a time, and the machine is never quite alone
    the promise  hop + fade + lookahead + cost*margin <= latency        heard, waited for and computed

More context is better sound, so the largest window that satisfies both is taken. What the latency leaves over goes
into a longer hop (fewer windows, more sessions), up to a quarter of the window: beyond that little work is saved and
context is lost. Cost is a measured float of seconds, here only; all time that leaves is integer samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil

from streaming.framing import Framing

Cost = Callable[[int], float]  # window in samples -> seconds of one forward
TARGET_S = 4  # end to end, when nothing is asked
MARGIN = 1.25  # a forward may take this much longer than measured before the promise breaks


def frame(window: int, hop: int, lookahead: int, fade: int) -> Framing:
    """The framing of these samples; what is left of the window is context."""
    return Framing(window, hop, window - hop - fade - lookahead, lookahead)


def promise(framing: Framing, rate: int, cost: Cost, margin: float = MARGIN) -> int:
    """Samples from hearing to telling, computing included: what may be declared to a client."""
    return framing.latency + ceil(cost(framing.window) * margin * rate)


def choose(
    windows: Iterable[int],
    rate: int,
    cost: Cost,
    latency: int | None = None,
    utilisation: float = 0.8,
    lookahead: int | None = None,
    fade: int | None = None,
    margin: float = MARGIN,
) -> Framing:
    """The framing with most context that keeps up and keeps the latency.

    Args:
        windows: lengths that the model runs at, in samples.
        rate: Hz.
        cost: seconds of one forward of a window, measured; asked once a window, largest first.
        latency: the promise asked for, in samples. By default 4 s, or the smallest possible where that cannot be.
        utilisation: share of the time that may be spent computing, in (0, 1].
        lookahead, fade: samples; by default 0.5 s and 0.05 s.
        margin: see `promise`.

    Raises:
        ValueError: no window keeps up, or none keeps the asked latency, naming the smallest possible.
    """
    look = rate // 2 if lookahead is None else lookahead
    seam = rate // 20 if fade is None else fade
    if not 0 < utilisation <= 1 or margin < 1 or min(look, seam) < 0:
        raise ValueError(
            f"got utilisation {utilisation}, margin {margin}, lookahead {look} and fade {seam} samples; "
            "expected utilisation in (0, 1], margin >= 1, samples >= 0"
        )
    limit = TARGET_S * rate if latency is None else latency
    best: tuple[int, Framing] | None = None
    tried = []
    for window in sorted(windows, reverse=True):
        seconds = cost(window)
        least, room = max(1, ceil(seconds / utilisation * rate)), window - look - seam
        tried.append(f"{window} samples take {seconds:.3g} s and tell at most {max(room, 0)}, {least} needed")
        if least > room:
            continue
        fixed = look + seam + ceil(seconds * margin * rate)
        if least + fixed <= limit:
            return frame(window, max(least, min(limit - fixed, window // 4, room)), look, seam)
        if best is None or least + fixed < best[0]:
            best = (least + fixed, frame(window, least, look, seam))
    if best is None:
        raise ValueError(f"this machine cannot keep up with any window: {'; '.join(tried) or 'there is none'}")
    if latency is None:
        return best[1]
    raise ValueError(
        f"got latency {latency} samples ({latency / rate:.3f} s), the smallest possible here is {best[0]} "
        f"({best[0] / rate:.3f} s): a window of {best[1].window}, hop {best[1].hop}, fade {seam}, lookahead {look}"
    )
