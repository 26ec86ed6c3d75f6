"""What any diarizer makes of simulated meetings of people whom nothing was trained on, and of a real conversation.

`python -m models.training.score_diarizer [--diarizer voices] [--profile 1.04s 0.64s] [--separator speech] [--json FILE]`

The meetings are those that training watches (`training/diarize.py`): 48 s, two to four people in turn, rooms, noise and
telephones, about 10 % of speech overlapped. The conversation is the sample of pyannote.audio. DER with collar 0 and overlap
scored (NIST RT-09), of what is above `--onset` with nothing done to it, or of turns with gaps closed (`--gap`); miss,
false alarm and confusion in percent of speech. What a second of audio costs in processor time is of all of them heard
together. With `--music DB` the instruments of two songs are that far below the people of each meeting, and how often somebody
is told in the instruments alone is said too. With `--separator` it is who speaks as told in mode `speakers`, where a
separator's outputs tell overlap too (`streaming/overlap.py`), one recording after another.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from models import diarizers, registry
from models.diarizer import Diarizer
from models.separator import Separator
from models.speakers import Speakers
from models.training.data import song_excerpt, speech_bank
from models.training.evaluate_diarize import real_conversation
from models.training.meetings import Flags, MeetingMixer
from streaming import turns
from streaming.matching import hungarian

Recording = tuple[NDArray[np.float32], Flags]
SONGS = {"Sodium": 60.0, "Caesium": 40.0}  # held out of all training; s where their instruments play


@dataclass(frozen=True)
class Row:
    """Of some recordings together; percent of their speech, and processor seconds for each second of audio."""

    profile: str
    what: str
    recordings: int
    der: float
    missed: float
    false_alarm: float
    confused: float
    slots: float
    cost: float


def errors(told: Flags, meant: Flags) -> NDArray[np.float64]:
    """Frames missed, false, confused, and of speech, in the best mapping of slots to people; `[T, S]`, `[T, P]`."""
    size = max(told.shape[1], meant.shape[1])
    shared = np.zeros((size, size))
    shared[: told.shape[1], : meant.shape[1]] = told.T.astype(np.float64) @ meant
    right = shared[np.arange(size), hungarian(shared)].sum()
    spoken, heard = meant.sum(1), told.sum(1)
    missed, false = np.maximum(spoken - heard, 0).sum(), np.maximum(heard - spoken, 0).sum()
    return np.array([missed, false, np.minimum(spoken, heard).sum() - right, spoken.sum()], np.float64)


def spoken(probs: NDArray[np.float32], onset: float, gap: int | None) -> Flags:
    """Who speaks in each frame, `[F, S]`: above the onset, or in a turn with pauses of up to `gap` frames closed."""
    if gap is None:
        return np.asarray(probs > onset)
    flags = np.zeros(probs.shape, bool)
    for turn in turns.whole(turns.Options(onset=onset, offset=0.8 * onset, gap=gap, min_duration=10), probs):
        flags[turn.start : turn.end, turn.speaker] = True
    return flags


def meetings(data: Path, cache: Path, count: int, seconds: float) -> list[Recording]:
    """Meetings of held-out speakers."""
    bank = speech_bank(data, cache)
    mixer = MeetingMixer(bank, bank.validation, speeds=(1.0,))
    made = [mixer.one(np.random.default_rng((7, k)), seconds, 2 + k % 3) for k in range(count)]
    return [(one.pcm, one.active) for one in made]


def instruments(data: Path, song: str, seconds: float) -> NDArray[np.float32]:
    """Drums, bass and the rest of a song without its voice, mono at 16 kHz, `[T]`, at an RMS of 0.05."""
    stems = song_excerpt(data, song, SONGS[song], seconds, 44100)
    mixed = sum(stems[name] for name in ("drums", "bass", "other"))
    pcm = soxr.resample(np.mean(mixed, axis=0), 44100, 16000).astype(np.float32)
    return np.asarray(pcm * (0.05 / np.sqrt(np.square(pcm).mean())), np.float32)


def with_music(
    recordings: Sequence[Recording], music: Sequence[NDArray[np.float32]], below_db: float
) -> list[Recording]:
    """The meetings with music all through, one song after the other."""
    out = []
    for number, (pcm, flags) in enumerate(recordings):
        played = np.resize(music[number % len(music)], len(pcm))
        level = np.sqrt(np.square(pcm).mean() / np.square(played).mean()) * 10 ** (-below_db / 20)
        out.append((np.asarray(pcm + played * level, np.float32), flags))
    return out


def told_by(
    diarizer: Diarizer, profile: str, separator: Separator | None, sounds: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Probabilities `[F, S]` of every frame of each recording, by the diarizer alone or with a separator beside it."""
    if separator is None:
        heard, states = diarizer.run(sounds, [diarizer.start(profile) for _ in sounds])
        return [np.concatenate((told, diarizer.finish(state))) for told, state in zip(heard, states, strict=True)]
    both = Speakers(separator, diarizer, profile=profile, people=diarizer.spec.speakers)
    out = []
    for pcm in sounds:
        length = -(-(len(pcm) + both.spec.framing.latency) // both.hop) * both.hop
        _, (state,) = both.run(np.pad(pcm, (0, length - len(pcm)))[None, None], [both.start()])
        out.append(both.activity(state).probs[: len(pcm) // 160])
    return out


def rows(
    diarizer: Diarizer,
    profile: str,
    groups: dict[str, list[Recording]],
    onset: float,
    gap: int | None,
    separator: Separator | None = None,
) -> list[Row]:
    """A row for each group, and for each number of people where they differ."""
    out = []
    for what, recordings in groups.items():
        began = time.process_time()
        probs = told_by(diarizer, profile, separator, [pcm for pcm, _ in recordings])
        cost = (time.process_time() - began) * diarizer.spec.rate / sum(len(pcm) for pcm, _ in recordings)
        flags = [spoken(p, onset, gap) for p in probs]
        each = [errors(told, meant) for told, (_, meant) in zip(flags, recordings, strict=True)]
        slots = [int((told.sum(0) > 50).sum()) for told in flags]
        people = [meant.shape[1] for _, meant in recordings]
        numbers = sorted(set(people))
        for number in [None, *numbers] if len(numbers) > 1 else [None]:
            chosen = [n for n, own in enumerate(people) if number in (None, own)]
            total = np.sum([each[n] for n in chosen], 0)
            shares = 100 * total / total[3]
            label = what if number is None else f"{what}, {number} people"
            used = float(np.mean([slots[n] for n in chosen]))
            missed, false, confused = (float(share) for share in shares[:3])
            der = missed + false + confused
            out.append(Row(profile, label, len(chosen), der, missed, false, confused, used, cost))
    return out


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.score_diarizer", description=__doc__)
    parser.add_argument("--diarizer", default="voices", help="a name, a folder or a file")
    parser.add_argument("--profile", nargs="*", help="default: all")
    parser.add_argument("--separator", help="a name; default: none, as in mode diarize")
    parser.add_argument("--onset", type=float, default=0.5)
    parser.add_argument("--gap", type=int, help="frames of 10 ms")
    parser.add_argument("--meetings", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=48)
    parser.add_argument("--music", type=float, metavar="DB", help="how far below the people instruments play")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    diarizer, real = diarizers.find(chosen.diarizer), real_conversation()
    groups = {"meetings": meetings(chosen.data, chosen.cache, chosen.meetings, chosen.seconds)}
    music = {} if chosen.music is None else {song: instruments(chosen.data, song, 40) for song in SONGS}
    if music:
        groups = {"meetings, music": with_music(groups["meetings"], list(music.values()), chosen.music)}
    elif real is not None:
        groups["telephone, 30 s"] = [real]
    separator = registry.find(registry.build(), chosen.separator).load(None) if chosen.separator else None
    found = [
        row
        for name in chosen.profile or diarizer.spec.profiles
        for row in rows(diarizer, name, groups, chosen.onset, chosen.gap, separator)
    ]
    print(f"{'profile':8} {'recordings':22} {'DER':>6} {'miss':>6} {'false':>6} {'conf.':>6} {'slots':>6} {'cost':>6}")
    for row in found:
        figures = " ".join(f"{value:6.1f}" for value in (row.der, row.missed, row.false_alarm, row.confused, row.slots))
        print(f"{row.profile:8} {row.what:22} {figures} {row.cost:6.3f}")
    for song, profile in product(music, chosen.profile or diarizer.spec.profiles):
        (probs,) = told_by(diarizer, profile, separator, [music[song]])
        share = 100 * spoken(probs, chosen.onset, chosen.gap).any(1).mean()
        print(f"{profile:8} instruments of {song}, nobody speaks: somebody is told {share:.1f} % of 40 s")
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
