"""Who is who after a break: a diarizer that hears only the last half minute again numbers people anew.

What was told of the same half minute before the break says who they are: the new numbers get the old ones that spoke at the
same times. Who did not speak in it cannot be known again, and gets a number that nobody had.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streaming import matching
from streaming.activity import Flags

Spoken = tuple[int, int, int]
"""Speaker, first frame, and the one after the last."""
MOST = 32  # spans that are kept: a ticket has little room


def kept(spans: Sequence[Spoken], since: int) -> tuple[Spoken, ...]:
    """Of all spans the latest ones that reach beyond frame `since`; and the last of everybody else, cut down to nothing.

    So it is known who there was.
    """
    there = sorted((one for one in spans if one[2] > since), key=lambda one: one[2])[-MOST:]
    others = {one[0] for one in spans} - {one[0] for one in there}
    return (*((who, 0, 0) for who in sorted(others)), *there)


def order(before: Sequence[Spoken], first: int, speaking: Flags) -> tuple[int, ...]:
    """The old number of each new one, by how long they agree; `speaking` `[F, N]` is the new opinion from frame `first` on."""
    count = speaking.shape[1]
    old = np.zeros((len(speaking), count))
    for who, begin, end in before:
        if who < count:
            old[max(begin - first, 0) : max(end - first, 0), who] = 1
    agree = speaking.T.astype(np.float64) @ old
    # Less than a frame in all, so it only decides among those who agree with nobody: the first of them gets the first number
    # that nobody had.
    had = {one[0] for one in before}
    free = sorted(range(count), key=lambda who: (who in had, who))
    wanted = np.empty(count)
    wanted[free] = np.arange(count, 0, -1)
    agree += np.arange(count, 0, -1)[:, None] * wanted / (count**3 + 1)
    return matching.best(agree)
