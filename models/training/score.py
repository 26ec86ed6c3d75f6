"""Random short pieces as lists of notes: what rendered training material plays. All choices come from one generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
KICK, SNARE, CLAP, CLOSED, OPEN, CRASH, RIDE, TOM, SHAKER, RIM = 36, 38, 39, 42, 46, 49, 51, 45, 70, 37


@dataclass(frozen=True)
class Note:
    """Start and length in seconds, MIDI pitch (or General MIDI drum), velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Piece:
    """Some bars of a made-up song, one list of notes a part."""

    bass: tuple[Note, ...]
    drums: tuple[Note, ...]
    chords: tuple[Note, ...]
    melody: tuple[Note, ...]


def compose(rng: Generator, seconds: float = 30) -> Piece:
    """A piece over a repeated progression of four chords."""
    beat = 60 / rng.uniform(75, 165)
    bars = max(4, int(seconds / (4 * beat)))
    scale = MAJOR if rng.random() < 0.4 else MINOR
    key = int(rng.integers(12))
    degrees = [0, *rng.choice((1, 2, 3, 4, 5), 3)] if rng.random() < 0.9 else [0, 0, 0, 0]
    roots = [int(degrees[bar % 4]) for bar in range(bars)]

    def pitch(degree: int, octave: int) -> int:
        return key + scale[degree % 7] + 12 * (degree // 7 + octave)

    def velocity() -> int:
        return int(rng.integers(60, 120))

    def line(octave: int, density: float, leap: int, unit: float, hold: float, chordal: float) -> list[Note]:
        """A one-bar rhythm, repeated, on chord notes and neighbours of each bar's root."""
        count = round(4 / unit)
        rhythm = [step for step in range(count) if step == 0 or rng.random() < density]
        notes = []
        for bar, root in enumerate(roots):
            for step in rhythm:
                shift = int(rng.choice((0, 2, 4, 7))) if rng.random() < chordal else int(rng.integers(-leap, leap + 1))
                start = (4 * bar + step * unit) * beat
                notes.append(Note(start, unit * beat * hold, pitch(root + shift, octave), velocity()))
        return notes

    walking = rng.random() < 0.5
    bass_unit = float(rng.choice((0.25, 0.5, 0.5, 1.0)))
    bass = line(2 + int(rng.random() < 0.4), rng.uniform(0.3, 1), 1, bass_unit, rng.uniform(0.4, 1.1), 0.4 * walking)
    if not walking:
        bass = [Note(n.start, n.length, pitch(roots[int(n.start / beat / 4 + 1e-6)], 2), n.velocity) for n in bass]
    melody_unit = float(rng.choice((0.25, 0.5, 0.5, 1.0)))
    melody = line(5 + int(rng.random() < 0.4), rng.uniform(0.3, 0.8), 3, melody_unit, rng.uniform(0.5, 1.5), 0.5)
    chords = []
    stabs = [0.0] if rng.random() < 0.5 else sorted(float(s) / 2 for s in rng.choice(8, 3, replace=False))
    for bar, root in enumerate(roots):
        for index, at in enumerate(stabs):
            length = ((stabs[index + 1] if index + 1 < len(stabs) else 4) - at) * beat * 0.95
            steps = (0, 2, 4, 6) if rng.random() < 0.3 else (0, 2, 4)
            chords += [Note((4 * bar + at) * beat, length, pitch(root + step, 4), velocity()) for step in steps]
    return Piece(tuple(bass), tuple(drum_notes(rng, beat, bars)), tuple(chords), tuple(melody))


def strummed(rng: Generator, chords: Sequence[Note]) -> tuple[Note, ...]:
    """Every chord as strokes of a hand over the strings: down from the lowest, up from the highest, an octave wider."""
    unit, spread, down = rng.uniform(0.16, 0.45), rng.uniform(0.006, 0.025), True
    notes = []
    for start in sorted({note.start for note in chords}):
        chord = sorted((note for note in chords if note.start == start), key=lambda note: note.pitch)
        pitches = sorted({note.pitch + shift for note in chord for shift in (-12, 0)})
        for stroke in range(max(1, round(chord[0].length / unit))):
            at = start + stroke * unit
            if stroke == 0 or rng.random() < 0.75:
                strings = pitches if down else pitches[::-1][: int(rng.integers(3, 6))]
                level = int(rng.integers(60, 115))
                notes += [Note(at + k * spread, 0.95 * unit, pitch, level) for k, pitch in enumerate(strings)]
            down = not down
    return tuple(notes)


def drum_notes(rng: Generator, beat: float, bars: int) -> list[Note]:
    """A sixteenth-note pattern of a bar, repeated with small changes; fills and crashes now and then."""
    kicks = [0.0, 1.0, 2.0, 3.0] if rng.random() < 0.4 else [0.0, *(s / 4 for s in range(2, 16) if rng.random() < 0.2)]
    snares = [1.0, 3.0] if rng.random() < 0.8 else [2.0]
    hat_unit = float(rng.choice((0.25, 0.5, 0.5, 1.0)))
    hat, back = int(rng.choice((CLOSED, CLOSED, RIDE, SHAKER))), int(rng.choice((SNARE, SNARE, CLAP, RIM)))
    pattern = [(at, KICK) for at in kicks] + [(at, back) for at in snares]
    pattern += [(step * hat_unit, hat) for step in range(round(4 / hat_unit))]
    if rng.random() < 0.4:
        pattern += [(step + 0.5, OPEN) for step in range(4)]
    notes = []
    for bar in range(bars):
        hits = [hit for hit in pattern if rng.random() < 0.95]
        if bar % 8 == 0 and rng.random() < 0.5:
            hits.append((0.0, CRASH))
        if bar % 4 == 3 and rng.random() < 0.5:
            hits += [(3 + s / 4, int(rng.choice((SNARE, TOM, TOM + 2, TOM - 2)))) for s in range(4)]
        for at, drum in hits:
            start = max(0.0, (4 * bar + at) * beat + rng.normal(0, 0.004))
            notes.append(Note(start, 0.2, drum, int(rng.integers(55, 125))))
    return notes
