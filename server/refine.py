"""A second opinion of a finished session: heard as a whole, offline, with the speaker numbers that the session had."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

from streaming import der, rttm
from streaming.rttm import Segment


def refine(live: Sequence[Segment], offline: Sequence[Segment]) -> list[Segment]:
    """The offline turns under the names of the live ones.

    Names are given one-to-one, so that both agree for the longest time (`der.match`). Whom the session did not know gets
    the next number that it did not use, in the order in which they speak.
    """
    names = der.match(live, offline)
    fresh = _unused({one.speaker for one in live})
    for one in sorted(offline):
        if one.speaker not in names:
            names[one.speaker] = next(fresh)
    return sorted(replace(one, speaker=names[one.speaker]) for one in offline)


def _unused(taken: set[str]) -> Iterator[str]:
    """Names of slots after the last of those taken; of other names nothing is known but that they are taken."""
    slots = [int(found[1]) for name in taken if (found := re.fullmatch(r"speaker_(\d+)", name))]
    return (name for slot in count(max(slots, default=0)) if (name := rttm.speaker(slot)) not in taken)
