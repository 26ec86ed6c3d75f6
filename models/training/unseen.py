"""Music of kinds that training never sees, to evaluate with: scores played by reserved instruments, and remixes.

- Scores of music21's corpus (PyPI `music21`), a part at a time by FluidSynth with General MIDI programs that `render` never
  uses, drums of kits and one-shots that it never uses, and a melody sung by speakers that are held out.
- The vocals of one held-out song over drums, bass and the rest of the other.

`python -m models.training.unseen [--data DIR] [--cache DIR]` writes them once, as tracks of the kinds `held-score` and
`held-remix`, which `music_bank` never gives to training. `split.json` names what is reserved.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

from models.training.data import BLOCK, STEMS, SpeechBank, Track, floats, manifest, music_bank, speech_bank, store_track
from models.training.mixing import decibels, rms
from models.training.render import RESERVED, drum_kit, fluidsynth
from models.training.score import Note, drum_notes
from models.training.sing import FRAME_S, place, sing
from models.training.synth import RATE, Audio, lay

LEVELS = {"vocals": 0.0, "drums": 0.0, "bass": -2.0, "other": -2.0}  # dB


@dataclass(frozen=True)
class Setting:
    """Who plays a score: parts by number, from the top.

    Attributes:
        score: as music21's corpus names it.
        pace: quarter notes a minute.
        bass: General MIDI program of the lowest part; of a keyboard's left hand only what is below C3.
        others: programs of the parts above, from the top; None: not played.
        drums: a General MIDI kit, or a kit of one-shots.
        sung: the part whose line is sung, in place of a program; None: nobody sings.
    """

    score: str
    pace: float
    bass: int
    others: tuple[int | None, ...]
    drums: int | str
    sung: int | None = None


SETTINGS = (
    Setting("bach/bwv66.6", 80, 35, (None, 40, 41), 40, sung=0),
    Setting("haydn/opus74no1/movement3", 150, 37, (73, 40, 68), "KPR77"),
    Setting("joplin/maple_leaf_rag", 96, 35, (6,), "R8"),
    Setting("mozart/k80/movement1", 84, 37, (None, 65, 61), "acoustic-kit", sung=0),
    Setting("handel/rinaldo/lascia_chio_pianga", 72, 35, (None, 46), 40, sung=0),
)


def score_parts(name: str, pace: float, seconds: float) -> list[list[Note]]:
    """The first seconds of each part of a score, from the top.

    Raises:
        ModuleNotFoundError: no music21 here.
    """
    from music21 import corpus

    parts = []
    for part in corpus.parse(name).parts:
        notes = []
        for struck in part.flatten().notes:
            start, length = float(struck.offset) * 60 / pace, float(struck.quarterLength) * 60 / pace
            if start < seconds and length > 0:
                level = 80 + 15 * (float(struck.beat) == 1)
                notes += [Note(start, 0.95 * length, int(pitch.midi), level) for pitch in struck.pitches]
        parts.append(notes)
    return parts


def pitch_line(notes: Sequence[Note]) -> NDArray[np.float64]:
    """Hz of the highest note in each frame of 5 ms, 0 between notes, with short glides."""
    line = np.zeros(int(max(n.start + n.length for n in notes) / FRAME_S))
    for note in sorted(notes, key=lambda n: n.pitch):
        frames = slice(int(note.start / FRAME_S), int((note.start + note.length) / FRAME_S))
        line[frames] = 440 * 2 ** ((note.pitch - 69) / 12)
    return line


def sung(rng: Generator, bank: SpeechBank, line: NDArray[np.float64]) -> Audio:
    """A held-out speaker sings the line, in a room, `[2, N]` at 44.1 kHz."""
    names = sorted({clip.group for clip in bank.validation})
    name = names[rng.integers(len(names))]
    clips = [clip for clip in bank.validation if clip.group == name]
    pcm = np.concatenate([floats(bank.pcm[clip.start : clip.start + clip.length]) for clip in clips])
    pcm = pcm[: int(0.8 * len(line) * FRAME_S * 16000)].astype(np.float64)
    stereo = place(rng, sing(rng, pcm, 16000, line), bank, None)
    return np.asarray(soxr.resample(stereo.T, 16000, RATE).T, np.float32)


def played(rng: Generator, setting: Setting, data: Path, bank: SpeechBank, seconds: float) -> dict[str, Audio]:
    """The stems of one setting, `[2, N]` each."""
    parts = score_parts(setting.score, setting.pace, seconds)
    low = [note for note in parts[-1] if len(parts) > 2 or note.pitch < 48]
    voices = [fluidsynth(n, p, False) for n, p in zip(parts, setting.others, strict=False) if n and p is not None]
    if len(low) < len(parts[-1]):  # the rest of the left hand
        voices.append(fluidsynth([note for note in parts[-1] if note not in low], RESERVED["programs"][3], False))
    beat = 60 / setting.pace
    pattern = drum_notes(rng, beat, int(seconds / (4 * beat)))
    if isinstance(setting.drums, int):
        drums = fluidsynth(pattern, setting.drums, True)
    else:
        shots = [i for i in manifest(data) if i["role"] == "one_shot_drum" and i.get("kit") == setting.drums]
        drums = lay(pattern, drum_kit(rng, data, shots))
    stems = {"drums": drums, "bass": fluidsynth(sounding(low), setting.bass, False), "other": together(voices)}
    if setting.sung is not None:
        stems["vocals"] = sung(rng, bank, pitch_line(parts[setting.sung]))
    return balanced(stems, int(seconds * RATE))


def sounding(notes: Sequence[Note]) -> list[Note]:
    """A part as a bass guitar reads it, which sounds an octave below what is written; not where that is below its range."""
    down = 12 if np.median([note.pitch for note in notes]) > 43 else 0
    return [replace(note, pitch=note.pitch - down) for note in notes]


def together(voices: Sequence[Audio]) -> Audio:
    """The sum of sounds of different lengths."""
    out = np.zeros((2, max(pcm.shape[1] for pcm in voices)), np.float32)
    for pcm in voices:
        out[:, : pcm.shape[1]] += pcm
    return out


def balanced(stems: Mapping[str, Audio], length: int) -> dict[str, Audio]:
    """Every stem `[2, length]` at its level of `LEVELS`."""
    cut = {stem: np.pad(pcm, ((0, 0), (0, max(0, length - pcm.shape[1]))))[:, :length] for stem, pcm in stems.items()}
    return {stem: pcm * np.float32(0.1 * decibels(LEVELS[stem]) / max(1e-4, rms(pcm))) for stem, pcm in cut.items()}


def busiest(found: Sequence[Track], blocks: int) -> int:
    """The block from which on the quietest of these stems sounds most in the next `blocks`."""
    length = min(len(track.active) for track in found)
    sums = [np.convolve(track.active[:length], np.ones(blocks), "valid") for track in found]
    return int(np.min(sums, axis=0).argmax()) if length >= blocks else 0


def remix(singing: Mapping[str, Track], playing: Mapping[str, Track], seconds: float) -> dict[str, Audio]:
    """The vocals of one song over everything else of another, each from its busiest place."""
    blocks = int(seconds * RATE / BLOCK)
    rest = [playing[stem] for stem in STEMS if stem in playing and stem != "vocals"]
    chosen = {"vocals": [singing["vocals"]], "rest": rest}
    stems: dict[str, Audio] = {}
    for found in chosen.values():
        first = busiest([t for t in found if t.active.mean() > 0.2] or found, blocks) * BLOCK
        cut = {t.stem: floats(t.pcm[:, first : first + blocks * BLOCK], t.gain) for t in found}
        level = rms(together(list(cut.values())))
        stems |= {stem: pcm * np.float32(0.1 / max(1e-4, level)) for stem, pcm in cut.items()}
    return stems


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.unseen", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--seconds", type=float, default=30)
    chosen = parser.parse_args(words)
    bank, folder = speech_bank(chosen.data, chosen.cache), chosen.cache / "tracks"
    made: dict[tuple[str, str], dict[str, Audio]] = {}
    for number, setting in enumerate(SETTINGS):
        name = setting.score.split("/", 1)[0]
        made["held-score", name] = played(
            np.random.default_rng((9, number)), setting, chosen.data, bank, chosen.seconds
        )
    songs: dict[str, dict[str, Track]] = {}
    for track in music_bank(chosen.data, chosen.cache)[1]:
        songs.setdefault(track.song, {})[track.stem] = track
    for one in songs:
        for other in songs:
            if one != other and "vocals" in songs[one]:
                made["held-remix", f"{one}+{other}"] = remix(songs[one], songs[other], chosen.seconds)
    for (kind, name), stems in made.items():
        for stem, pcm in stems.items():
            store_track(folder, name, stem, kind, pcm)
        print(f"{kind} {name}: {', '.join(stems)}", flush=True)


if __name__ == "__main__":
    main()
