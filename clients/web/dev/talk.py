"""A conversation by the book, for the stand-in server: who speaks when is a script, whatever is heard.

The sound of each moment goes to those who speak then, in equal shares; where nobody does, all tracks are silent.
"""

from __future__ import annotations

import numpy as np

PEOPLE = 4
PERIOD = 24.0  # s; then the script begins again
SCRIPT = [  # speaker, from, to (s)
    (0, 0.4, 4.1), (1, 3.6, 7.9), (0, 8.3, 9.6), (2, 9.4, 13.0), (1, 12.2, 14.8), (0, 13.9, 17.5), (2, 18.2, 22.9),
    (0, 20.0, 20.6),
]  # fmt: skip
SETTLED = 0.3  # s of silence after which a turn is final
BLINK = (1, 17.9, 18.0)  # somebody who only breathed: a turn that is told and then dropped


class Talk:
    """One session at `rate` Hz."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.said: dict[int, tuple[int, bool]] = {}  # by id: the end, and whether it is over

    def turns(self, told: int) -> list[tuple[int, int, int, int]]:
        """`(id, speaker, start, end)` in samples of those that have begun before `told`, in this period and the last."""
        found = []
        now = int(told / self.rate / PERIOD)
        for turn in range(max(0, now - 1), now + 1):
            for number, (speaker, start, end) in enumerate([*SCRIPT, BLINK]):
                first, last = (round((turn * PERIOD + at) * self.rate) for at in (start, end))
                found += [(turn * (len(SCRIPT) + 1) + number, speaker, first, last)] if first < told else []
        return found

    def event(self, told: int) -> dict[str, object] | None:
        """The `speakers` message for what has changed when it is known up to `told`; None for nothing."""
        changed, dropped, active = [], [], set()
        for id, speaker, start, end in self.turns(told):
            now = min(end, told), told >= end + round(SETTLED * self.rate)
            active |= {speaker} if end >= told else set()
            if self.said.get(id) == now or self.said.get(id, (0, False))[1]:
                continue
            self.said[id] = now
            if now[1] and id % (len(SCRIPT) + 1) == len(SCRIPT):
                dropped.append(id)
            else:
                changed.append({"id": id, "speaker": speaker, "start": start, "end": now[0], "final": now[1]})
        if not changed and not dropped:
            return None
        return {"type": "speakers", "told": told, "active": sorted(active), "turns": changed, "dropped": dropped}

    def tracks(self, pcm: np.ndarray, start: int) -> np.ndarray:
        """`[1, T]` from sample `start` on to `[PEOPLE, 1, T]`."""
        gates = np.zeros((PEOPLE, 1, pcm.shape[1]))
        for _, speaker, first, last in self.turns(start + pcm.shape[1]):
            gates[speaker, 0, max(first - start, 0) : max(last - start, 0)] = 1
        return gates * pcm / np.maximum(gates.sum(0), 1)
