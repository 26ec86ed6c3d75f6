"""Notes to sound: FluidSynth's General MIDI, sampled instruments, single-cycle waves, one-shot drums, loops.

`python -m models.training.render [--data DIR] [--cache DIR] [--pieces N]` fills the cache once, in some minutes. Parts
whose tools or recordings are absent are left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from models.training import score
from models.training.data import manifest, read_audio, store_track
from models.training.mixing import decibels, resampled
from models.training.score import Note, Piece, compose

RATE = 44100
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
VOICES = {52, 53, 54, 85, 91}  # choirs would teach that "other" sings
Audio = NDArray[np.float32]


def fluidsynth(notes: Sequence[Note], program: int, drums: bool) -> Audio:
    """`[2, N]` of one General MIDI program."""
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
        command = ["fluidsynth", "-ni", "-g", "0.4", "-F", str(out), "-r", str(RATE), str(SOUNDFONT), str(middle)]
        subprocess.run(command, check=True, capture_output=True)
        return read_audio(out, RATE, 2)


def lay(notes: Sequence[Note], sound: Callable[[Note], Audio]) -> Audio:
    """Sum the sound of each note, `[2, n]`, at its place."""
    out = np.zeros((2, int((max(n.start for n in notes) + 6) * RATE)), np.float32)
    for note in notes:
        pcm, at = sound(note), int(note.start * RATE)
        pcm = pcm[:, : out.shape[1] - at]
        out[:, at : at + pcm.shape[1]] += pcm * (note.velocity / 127)
    return out


def envelope(length: int, attack: float, release: float, decay: float) -> Audio:
    """`[length]`: linear attack and release (seconds), exponential decay (seconds to 1/e)."""
    t = np.arange(length) / RATE
    shape = np.minimum(1, t / attack) * np.minimum(1, (length / RATE - t) / release) * np.exp(-t / decay)
    return np.asarray(shape, np.float32)


def sampler(rng: Generator, data: Path, items: Sequence[dict[str, Any]], down: int) -> Callable[[Note], Audio]:
    """A sampled instrument: the nearest recorded pitch, resampled; `down` semitones are taken off the notes."""
    bank = [(69 + 12 * np.log2(i["f0_hz"] / 440), data / i["file"]) for i in items]

    def sound(note: Note) -> Audio:
        wanted = note.pitch - down
        pitch, path = min(bank, key=lambda entry: abs(entry[0] - wanted) + rng.uniform(0, 3))
        pcm, speed = read_audio(path, RATE, 2), 2 ** ((wanted - pitch) / 12)
        length = min(int((note.length + 0.15) * RATE), int((pcm.shape[1] - 8) / speed))
        return resampled(np.pad(pcm, ((0, 0), (0, 8))), speed, length) * envelope(length, 0.002, 0.1, 10)

    return sound


def wavetable(rng: Generator, cycles: Audio, bass: bool) -> Callable[[Note], Audio]:
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


def drum_kit(rng: Generator, data: Path, items: Sequence[dict[str, Any]]) -> Callable[[Note], Audio]:
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


def parts_by_midi(rng: Generator, piece: Piece) -> dict[str, Audio]:
    """Bass, drums and two other instruments, each of a random General MIDI program."""
    programs = [p for p in range(112) if p not in VOICES and not 32 <= p <= 39]
    one, two = (fluidsynth(notes, int(rng.choice(programs)), False) for notes in (piece.chords, piece.melody))
    other = np.zeros((2, max(one.shape[1], two.shape[1])), np.float32)
    other[:, : one.shape[1]] += one
    other[:, : two.shape[1]] += two * decibels(rng.uniform(-6, 3))
    bass = fluidsynth(piece.bass, int(rng.integers(32, 40)), False)
    drums = fluidsynth(piece.drums, int(rng.choice((0, 8, 16, 24, 25, 32, 40))), True)
    return {"bass": bass, "drums": drums, "other": other}


def parts_by_samples(
    rng: Generator, piece: Piece, data: Path, items: list[dict[str, Any]]
) -> dict[str, dict[str, Audio]]:
    """Kind -> stem -> sound, from recorded notes, waves and one-shots."""
    of = {role: [i for i in items if i["role"] == role] for role in {i["role"] for i in items}}
    cycles = read_audio(data / of["single_cycle_waves"][0]["file"], RATE, 1)[0]
    cycles = cycles[: len(cycles) // 512 * 512].reshape(-1, 512)
    prefix = str(rng.choice(("black_twang", "green_twang", "black_staccato", "green_staccato")))
    guitar = [i for i in of["note_guitar"] if prefix in i["file"] and i.get("f0_hz")]
    piano = [i for i in of["note_piano"] if i.get("f0_hz")]
    keys = sampler(rng, data, piano if rng.random() < 0.5 else guitar, 0)
    kits = sorted({i["kit"] for i in of["one_shot_drum"] if i.get("kit")})
    kit = str(rng.choice(kits))
    mine = [i for i in of["one_shot_drum"] if i.get("kit") == kit]
    shots = mine if mine and rng.random() < 0.6 else of["one_shot_drum"]
    lead, pad = wavetable(rng, cycles, False), wavetable(rng, cycles, False)
    synth = lay(piece.chords, pad) * 0.5
    melody = lay(piece.melody, lead)
    synth = np.pad(synth, ((0, 0), (0, max(0, melody.shape[1] - synth.shape[1]))))
    synth[:, : melody.shape[1]] += melody
    return {
        "sampled": {"bass": lay(piece.bass, sampler(rng, data, guitar, 0)), "other": lay(piece.chords, keys)},
        "synth": {"bass": lay(piece.bass, wavetable(rng, cycles, True)), "other": synth},
        "shots": {"drums": lay(piece.drums, drum_kit(rng, data, shots))},
    }


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
    chosen = parser.parse_args(words)
    folder, items = chosen.cache / "tracks", manifest(chosen.data)
    folder.mkdir(parents=True, exist_ok=True)
    midi = SOUNDFONT.is_file() and shutil.which("fluidsynth") is not None
    if items and chosen.first == 0:
        loops(chosen.data, items, folder)
    for number in range(chosen.first, chosen.first + chosen.pieces):
        rng = np.random.default_rng((7, number))
        piece = compose(rng, chosen.seconds)
        kinds = {"midi": parts_by_midi(rng, piece)} if midi else {}
        kinds |= parts_by_samples(rng, piece, chosen.data, items) if items else {}
        for kind, stems in kinds.items():
            for stem, pcm in stems.items():
                store_track(folder, f"{kind}{number:03}", stem, kind, pcm)
        print(json.dumps({"piece": number, "kinds": sorted(kinds)}), flush=True)


if __name__ == "__main__":
    main()
