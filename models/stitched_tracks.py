"""Recordings through one windowed separator and several ways of stitching, for `clients.bench.speakers`.

    python -m models.stitched_tracks FOLDER --model speech --window 2 --hop 1 --settings overlap voice three

reads `FOLDER/*/mixture.wav` and writes `tracks/<setting>/track_<n>.wav` and `facts.json` (margins, swaps) beside each.
Every window is separated once, and all settings stitch that same output.

Separators:

- a stateful model with interchangeable outputs: run on each window from its zero state, so without memory;
- a windowed one;
- `oracle`: the true voices `person_<n>.wav` with cross-talk (`--leak` dB), in an order that is random in each window.

Settings:

- `none`: as the separator gives them;
- `overlap`: overlap correlation only;
- `voice`: and embeddings;
- `three`: and a diarizer, `--diarizer`, a name or path;
- `truth`: three, but the diarizer is the truth, late by 1.04 s, with a tenth of it wrong: a bound, not a result;
- `best`: the order that fits the true voices best in each window: what no stitching can beat.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from models import registry
from models.diarizer import FRAME, Diarizer
from models.separator import Separator, Spec
from models.stitched import RATE, Encoder, Stitched
from models.stitched_trials import Afresh, Once, Oracle, Ordered, Reference, best_tracks
from streaming.align_cues import Rules
from streaming.framing import Array, Framing

SETTINGS = {
    "none": Rules(overlap=0, voice=0, activity=0),
    "overlap": Rules(voice=0, activity=0, stay=0.1),
    "voice": Rules(activity=0),
    "three": Rules(),
    "truth": Rules(),
    "best": Rules(overlap=0, voice=0, activity=0),
}


def windowed(
    found: Separator | None, voices: Array, window: int, hop: int, leak: tuple[float, float], seed: int
) -> Separator:
    """A model as a separator of windows; None: an oracle, which knows the voices `[P, T]` of the recording."""
    if found is None:
        names = tuple(f"speaker_{n + 1}" for n in range(len(voices)))
        framing = Framing(window, hop)
        spec = Spec("oracle", RATE, 1, names, framing, windows=(window,), interchangeable=True)
        return Oracle(voices, leak, seed, spec)
    return found if found.spec.windows else Afresh.of(found, window, hop)


def stitched(
    setting: str,
    separator: Separator,
    pcm: Array,
    voices: Array,
    encoder: Encoder | None,
    live: Diarizer | None,
    seed: int,
) -> Stitched:
    """One setting over a separator."""
    rules = SETTINGS[setting]
    if setting == "best":
        tracks = best_tracks(separator, pcm, voices)
        separator = Ordered(separator, voices, tracks, separator.spec)
    if setting == "truth":
        live = Reference(activity(voices), 0.1, seed)
    return Stitched(separator, encoder if rules.voice else None, live if rules.activity else None, rules=rules)


def activity(voices: Array, gate_db: float = 35.0) -> Array:
    """`[F, P]`: 1 where each voice is within so much of its loud frames, smoothed over 0.2 s."""
    level = np.square(voices[:, : voices.shape[1] // FRAME * FRAME].reshape(len(voices), -1, FRAME)).mean(2)
    level = np.stack([np.convolve(row, np.full(21, 1 / 21), "same") for row in level])
    loud = np.array([np.percentile(row[row > 1e-9], 95) if row.any() else 1.0 for row in level])
    return np.asarray((level > loud[:, None] * 10 ** (-gate_db / 10)).T, np.float32)


def tracks_of(separator: Stitched, pcm: Array) -> tuple[Array, list[float], int]:
    """A recording `[T]`: tracks `[S, T]`, the margin of each window, and the number of swaps."""
    hop, late = separator.spec.framing.hop, separator.spec.framing.delay
    hops = -(-(len(pcm) + late) // hop)
    padded = np.pad(pcm, (0, hops * hop - len(pcm))).astype(np.float32)
    state, out, margins = separator.start(), [], []
    for at in range(0, len(padded), hop):
        stems, (state,) = separator.run(padded[None, None, at : at + hop], [state])
        out.append(stems[0, :, 0])
        margins.append(round(min(state.align.margin, 99.0), 4))
    return np.concatenate(out, 1)[:, late : late + len(pcm)], margins, state.align.swaps


def encoder() -> Encoder:
    """The speaker encoder that ships."""
    from models import voiceprint

    return voiceprint.load().apart


def diarizer_of(name: str | None) -> Diarizer | None:
    """A live diarizer by name, or from a folder, a file or the local hub cache."""
    if name is None:
        return None
    from models import diarizers

    return diarizers.find(name)


def read(folder: Path, stem: str) -> Array:
    """`stem_1.wav`, `stem_2.wav`, ... as rows, `[N, T]`."""
    rows: list[Array] = []
    while (path := folder / f"{stem}_{len(rows) + 1}.wav").is_file():
        rows.append(mono(path))
    if not rows:
        raise ValueError(f"{folder}: got no {stem}_1.wav there")
    return np.stack(rows)


def mono(path: Path) -> Array:
    pcm, rate = soundfile.read(path, dtype="float32")
    if rate != RATE or pcm.ndim != 1:
        raise ValueError(f"{path}: got {rate} Hz and shape {pcm.shape}, expected {RATE} Hz mono")
    return np.asarray(pcm, np.float32)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.stitched_tracks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="speech")
    parser.add_argument("--window", type=float, default=2.0, help="s")
    parser.add_argument("--hop", type=float, default=1.0, help="s")
    parser.add_argument("--settings", nargs="+", choices=sorted(SETTINGS), default=sorted(SETTINGS.keys() - {"three"}))
    parser.add_argument("--diarizer", help="for the setting three")
    parser.add_argument("--leak", nargs=2, type=float, default=(10.0, 20.0), help="dB, of the oracle's cross-talk")
    parser.add_argument("--name", default="", help="before the names of the tracks' folders")
    chosen = parser.parse_args(words)
    if "three" in chosen.settings and chosen.diarizer is None:
        parser.error("got the setting three, which needs --diarizer")
    embed = encoder() if any(SETTINGS[setting].voice for setting in chosen.settings) else None
    live = diarizer_of(chosen.diarizer)
    model = None if chosen.model == "oracle" else registry.find(registry.build(), chosen.model).load(None)
    window, hop = round(chosen.window * RATE), round(chosen.hop * RATE)
    for seed, path in enumerate(sorted(chosen.folder.glob("*/mixture.wav"))):
        pcm, voices = mono(path), read(path.parent, "person")
        once = Once(windowed(model, voices, window, hop, tuple(chosen.leak), seed))
        for setting in chosen.settings:
            tracks, margins, swaps = tracks_of(stitched(setting, once, pcm, voices, embed, live, seed), pcm)
            out = path.parent / "tracks" / f"{chosen.name}{setting}"
            out.mkdir(parents=True, exist_ok=True)
            for number, track in enumerate(tracks, 1):
                soundfile.write(out / f"track_{number}.wav", np.clip(track, -1, 1), RATE, subtype="PCM_16")
            (out / "facts.json").write_text(json.dumps({"swaps": swaps, "margins": margins}))
        print(path.parent, flush=True)


if __name__ == "__main__":
    main()
