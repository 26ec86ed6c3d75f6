"""Notes to sound: FluidSynth's General MIDI, sampled instruments, single-cycle waves, one-shot drums, loops.

`python -m models.training.render [--data DIR] [--cache DIR] [--pieces N]` fills the cache once, in some minutes. Kinds
whose tools or recordings are absent are left out.

Never rendered for training, so that `unseen` can test with it: the programs, drum kits and one-shots that stand under
`rendered` in `split.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.signal import butter, sosfilt

from models.training import score
from models.training.club import club
from models.training.data import manifest, read_audio, store_track
from models.training.mixing import decibels, resampled, rms
from models.training.score import Note, Piece, compose, strummed
from models.training.synth import RATE, Audio, Sound, envelope, growl, lay, machine, struck

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
VOICES = {52, 53, 54, 85, 91}  # choirs would teach that "other" sings
RESERVED = json.loads((Path(__file__).parent / "split.json").read_text())["rendered"]
PROGRAMS = [p for p in range(112) if p not in VOICES and not 32 <= p <= 39 and p not in RESERVED["programs"]]
BASSES = [p for p in range(32, 40) if p not in RESERVED["programs"]]
KITS = [k for k in (0, 8, 16, 24, 25, 32, 40) if k not in RESERVED["drum_kits"]]
GUITARS = [p for p in range(24, 30) if p not in RESERVED["programs"]]
KINDS = ("midi", "band", "sampled", "synth", "shots", "club", "growl", "struck")


def fluidsynth(notes: Sequence[Note], program: int, drums: bool, wet: bool = True) -> Audio:
    """`[2, N]` of one General MIDI program, with FluidSynth's reverberation and chorus or without."""
    import mido

    track = mido.MidiTrack([mido.Message("program_change", channel=9 if drums else 0, program=program, time=0)])
    events = [(n.start, "note_on", n) for n in notes] + [(n.start + n.length, "note_off", n) for n in notes]
    now = 0
    for seconds, kind, n in sorted(events, key=lambda event: (event[0], event[1])):
        tick = round(seconds * 960)  # 480 ticks a beat of half a second
        message = mido.Message(kind, channel=9 if drums else 0, note=n.pitch, velocity=n.velocity, time=tick - now)
        track.append(message)
        now = tick
    with tempfile.TemporaryDirectory() as folder:
        middle, out = Path(folder) / "in.mid", Path(folder) / "out.wav"
        mido.MidiFile(tracks=[track], ticks_per_beat=480).save(middle)
        command = ["fluidsynth", "-ni", "-g", "0.4", "-R", str(int(wet)), "-C", str(int(wet)), "-r", str(RATE)]
        subprocess.run([*command, "-F", str(out), str(SOUNDFONT), str(middle)], check=True, capture_output=True)
        return read_audio(out, RATE, 2)


def sampler(rng: Generator, data: Path, items: Sequence[dict[str, Any]], down: int) -> Sound:
    """A sampled instrument: the nearest recorded pitch, resampled; `down` semitones are taken off the notes."""
    bank = [(69 + 12 * np.log2(i["f0_hz"] / 440), data / i["file"]) for i in items]

    def sound(note: Note) -> Audio:
        wanted = note.pitch - down
        pitch, path = min(bank, key=lambda entry: abs(entry[0] - wanted) + rng.uniform(0, 3))
        pcm, speed = read_audio(path, RATE, 2), 2 ** ((wanted - pitch) / 12)
        length = min(int((note.length + 0.15) * RATE), int((pcm.shape[1] - 8) / speed))
        return resampled(np.pad(pcm, ((0, 0), (0, 8))), speed, length) * envelope(length, 0.002, 0.1, 10)

    return sound


def wavetable(rng: Generator, cycles: Audio, bass: bool) -> Sound:
    """A synthesiser: one or two detuned waves, a low-pass filter, an envelope, width; fixed for the part."""
    wave = cycles[rng.integers(len(cycles))]
    wave = wave - wave.mean()
    if bass and rng.random() < 0.6:
        wave = np.sin(2 * np.pi * np.arange(512) / 512).astype(np.float32) + rng.uniform(0, 0.5) * wave
    closed = np.concatenate((wave, wave[:4]))
    detune, attack = rng.uniform(0, 0.008), float(rng.choice((0.003, 0.01, 0.2)))
    decay, cutoff = float(rng.choice((0.15, 0.6, 5))), rng.uniform(150, 2500) if bass else rng.uniform(800, 12000)
    width = 0.0 if bass else rng.uniform(0, 1)
    filt = butter(2, min(cutoff, 18000), fs=RATE, output="sos")

    def sound(note: Note) -> Audio:
        length = int((note.length + 0.1) * RATE)
        pitch = 440 * 2 ** ((note.pitch - 69) / 12)
        sides = []
        for cents in (detune, -detune):
            phase = (np.arange(length) * (pitch * (1 + cents) * 512 / RATE)) % 512
            sides.append(np.interp(phase, np.arange(516), closed))
        middle, side = (sides[0] + sides[1]) / 2, (sides[0] - sides[1]) / 2 * width
        pcm = sosfilt(filt, np.stack((middle + side, middle - side)), axis=-1)
        return np.asarray(pcm * envelope(length, attack, 0.08, decay), np.float32)

    return sound


def drum_kit(rng: Generator, data: Path, items: Sequence[dict[str, Any]]) -> Sound:
    """One-shots chosen for each General MIDI drum by what their names say."""
    wanted = {
        score.KICK: ("kick", "bd_"), score.SNARE: ("snare", "sn_", "sd_"), score.CLAP: ("clap", "snap", "snare"),
        score.CLOSED: ("hihat", "cymbal_closed", "hat_"), score.OPEN: ("hihat", "cymbal_open", "hat_"),
        score.CRASH: ("splash", "cymbal", "hihat"), score.RIDE: ("cymbal", "hihat"), score.RIM: ("rim", "perc", "snare"),
        score.SHAKER: ("shake", "hat_", "hihat"),
    }  # fmt: skip
    chosen: dict[int, Audio] = {}

    def sound(note: Note) -> Audio:
        if note.pitch not in chosen:
            words = wanted.get(note.pitch, ("tom",))
            fit = [i for i in items if any(word in Path(i["file"]).name.lower() for word in words)]
            pcm = read_audio(data / fit[rng.integers(len(fit))]["file"], RATE, 2)[:, : 2 * RATE]
            pcm = pcm / max(0.05, float(np.abs(pcm).max())) * decibels(-6 if note.pitch in (42, 46, 49, 51, 70) else 0)
            pan = rng.uniform(-0.5, 0.5) if note.pitch != score.KICK else 0.0
            chosen[note.pitch] = pcm * np.array([[1 - pan], [1 + pan]], np.float32)
        return chosen[note.pitch]

    return sound


def played(rng: Generator, piece: Piece, chords: Sequence[Note], program: int, lead: float) -> dict[str, Audio]:
    """Bass, drums, chords and a melody `lead` dB beside them, of random General MIDI programs; all wet or all dry."""
    wet = rng.random() < 0.7
    one = fluidsynth(chords, program, False, wet)
    two = fluidsynth(piece.melody, int(rng.choice(PROGRAMS)), False, wet) * decibels(lead)
    other = np.zeros((2, max(one.shape[1], two.shape[1])), np.float32)
    other[:, : one.shape[1]] += one
    other[:, : two.shape[1]] += two
    bass = fluidsynth(piece.bass, int(rng.choice(BASSES)), False, wet)
    drums = fluidsynth(piece.drums, int(rng.choice(KITS)), True, wet)
    return {"bass": bass, "drums": drums, "other": other}


def levelled(rng: Generator, stems: dict[str, Audio]) -> dict[str, Audio]:
    """The stems of one piece as a mix has them: drums in front, bass and other 3 dB below, each give or take 3 dB."""
    wanted = {stem: 0.1 * decibels(rng.normal(0 if stem == "drums" else -3, 3)) for stem in sorted(stems)}
    return {stem: pcm * np.float32(wanted[stem] / max(1e-5, rms(pcm))) for stem, pcm in stems.items()}


class Recordings:
    """Notes, waves and one-shots of the manifest, without the reserved kits."""

    def __init__(self, data: Path, items: Sequence[dict[str, Any]]) -> None:
        self.data = data
        self.of = {role: [i for i in items if i["role"] == role] for role in {i["role"] for i in items}}
        self.shots = [i for i in self.of["one_shot_drum"] if i.get("kit") not in RESERVED["one_shots"]]
        cycles = read_audio(data / self.of["single_cycle_waves"][0]["file"], RATE, 1)[0]
        self.cycles = cycles[: len(cycles) // 512 * 512].reshape(-1, 512)

    def guitar(self, rng: Generator) -> Sound:
        prefix = str(rng.choice(("black_twang", "green_twang", "black_staccato", "green_staccato")))
        notes = [i for i in self.of["note_guitar"] if prefix in i["file"] and i.get("f0_hz")]
        return sampler(rng, self.data, notes, 0)

    def piano(self, rng: Generator) -> Sound:
        return sampler(rng, self.data, [i for i in self.of["note_piano"] if i.get("f0_hz")], 0)

    def kit(self, rng: Generator) -> Sound:
        """One-shots of one kit, or of all."""
        kit = str(rng.choice(sorted({i["kit"] for i in self.shots if i.get("kit")})))
        mine = [i for i in self.shots if i.get("kit") == kit]
        return drum_kit(rng, self.data, mine if rng.random() < 0.6 else self.shots)


def rendered(kind: str, rng: Generator, piece: Piece, seconds: float, found: Recordings | None) -> dict[str, Audio]:
    """The stems of one piece in one of `KINDS`; none where the recordings that it takes are absent."""
    if kind == "midi":
        return played(rng, piece, piece.chords, int(rng.choice(PROGRAMS)), rng.uniform(-6, 3))
    if kind in ("growl", "struck"):
        return {"bass": lay(piece.bass, growl(rng) if kind == "growl" else struck(rng))}
    if kind == "band":
        return played(rng, piece, strummed(rng, piece.chords), int(rng.choice(GUITARS)), rng.uniform(-9, 3))
    if found is None:
        return {}
    if kind == "sampled":
        keys = found.piano(rng) if rng.random() < 0.5 else found.guitar(rng)
        return {"bass": lay(piece.bass, found.guitar(rng)), "other": lay(piece.chords, keys)}
    if kind == "synth":
        pads, melody = (lay(notes, wavetable(rng, found.cycles, False)) for notes in (piece.chords, piece.melody))
        other = np.pad(pads * 0.5, ((0, 0), (0, max(0, melody.shape[1] - pads.shape[1]))))
        other[:, : melody.shape[1]] += melody
        return {"bass": lay(piece.bass, wavetable(rng, found.cycles, True)), "other": other}
    if kind == "shots":
        return {"drums": lay(piece.drums, found.kit(rng))}
    return club(rng, seconds, machine(rng) if rng.random() < 0.5 else found.kit(rng))


def loops(data: Path, items: list[dict[str, Any]], folder: Path) -> None:
    """Recorded drum loops and phrases, repeated to ten seconds and more."""
    drums = (
        "amen",
        "break",
        "compus",
        "industrial",
        "perc",
        "tabla",
        "mika",
        "garzul",
        "beat",
        "drum",
        "hat",
        "rhythm",
    )
    for item in items:
        name = Path(item["file"]).stem
        rhythmic = item["role"] in ("loop", "one_shot_loop") and any(word in name for word in drums)
        if rhythmic or item["role"] == "phrase_drum":
            pcm = read_audio(data / item["file"], RATE, 2)
            store_track(folder, name, "drums", "loop", np.tile(pcm, (1, int(10 * RATE / pcm.shape[1]) + 1)))
        if item["role"] in ("phrase_vocals", "phrase_other"):
            stem = item["role"].removeprefix("phrase_")
            store_track(folder, name, stem, "phrase", read_audio(data / item["file"], RATE, 2))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.render", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=28)
    parser.add_argument("--first", type=int, default=0, help="number of the first piece (and its seed)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    chosen = parser.parse_args(words)
    folder, items = chosen.cache / "tracks", manifest(chosen.data)
    folder.mkdir(parents=True, exist_ok=True)
    midi = SOUNDFONT.is_file() and shutil.which("fluidsynth") is not None
    if items and chosen.first == 0 and not any(folder.glob("loop-*.npy")):
        loops(chosen.data, items, folder)
    found = Recordings(chosen.data, items) if items else None
    for number in range(chosen.first, chosen.first + chosen.pieces):
        piece, done = compose(np.random.default_rng((7, number)), chosen.seconds), []
        for kind in chosen.kinds:
            if midi or kind not in ("midi", "band"):
                rng = np.random.default_rng((7, number, KINDS.index(kind)))
                stems = levelled(rng, rendered(kind, rng, piece, chosen.seconds, found))
                for stem, pcm in stems.items():
                    store_track(folder, f"{kind}{number:03}", stem, kind, pcm)
                done += [kind] * bool(stems)
        print(json.dumps({"piece": number, "kinds": done}), flush=True)


if __name__ == "__main__":
    main()
