"""Everything that is known of who spoke when: the `Speakers` events of a session, folded."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rivulet_client.turns import Speakers, Turn


class Timeline:
    """Take every `Speakers` event, in order; read at any time.

    Attributes:
        told: the sample up to which it is known who speaks.
        active: who speaks there.
    """

    def __init__(self) -> None:
        self.told = 0
        self.active: tuple[int, ...] = ()
        self._turns: dict[int, Turn] = {}

    def take(self, event: Speakers) -> None:
        self.told, self.active = event.told, event.active
        self._turns |= {turn.id: turn for turn in event.turns}
        for id in event.dropped:
            self._turns.pop(id, None)

    @property
    def turns(self) -> list[Turn]:
        """Those that are final and those that may still grow, by their start."""
        return sorted(self._turns.values(), key=lambda turn: (turn.start, turn.speaker, turn.id))

    @property
    def speakers(self) -> list[int]:
        """Everybody who has spoken."""
        return sorted({turn.speaker for turn in self._turns.values()})

    def at(self, sample: int) -> list[int]:
        """Who speaks at this sample, as far as it is known."""
        return sorted({turn.speaker for turn in self._turns.values() if turn.start <= sample < turn.end})

    def rttm(self, rate: int, recording: str = "session", names: Mapping[int, str] | None = None) -> str:
        """The turns in NIST's Rich Transcription Time Marked format, one a line, at `rate` Hz; `names`: by speaker."""
        return "".join(
            f"SPEAKER {_word(recording)} 1 {_seconds(start)} {_seconds(end - start)} <NA> <NA> {_word(name)} <NA> <NA>\n"
            for start, end, name in self._told(rate, names)
        )

    def json(self, rate: int, recording: str = "session", names: Mapping[int, str] | None = None) -> str:
        """The same as JSON: `{recording, speakers, turns: [{speaker, start, end}]}`, times in s."""
        told = self._told(rate, names)
        turns = [{"speaker": name, "start": start / 1000, "end": end / 1000} for start, end, name in told]
        speakers = list(dict.fromkeys(name for _, _, name in told))
        return json.dumps({"recording": recording, "speakers": speakers, "turns": turns}, indent=1) + "\n"

    def _told(self, rate: int, names: Mapping[int, str] | None) -> list[tuple[int, int, str]]:
        """Start and end in ms, and whose it is."""
        known = names or {}
        ends = ((_ms(turn.start, rate), _ms(turn.end, rate), turn.speaker) for turn in self.turns)
        return [(start, end, known.get(speaker, f"speaker_{speaker + 1}")) for start, end, speaker in ends]


def _ms(sample: int, rate: int) -> int:
    """The nearest; the half goes up."""
    return (2000 * sample + rate) // (2 * rate)


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03}"


def _word(text: str) -> str:
    """RTTM separates its fields by spaces."""
    return "_".join(text.split()) or "_"
