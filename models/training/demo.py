"""The song and the scene that ship with the page, as files; made of synthetic voices and instruments alone.

    python -m models.training.demo                # writes clients/web/public/demo
    python -m models.training.demo --score        # and what the embedded models make of them

Needs espeak-ng, FluidSynth with FluidR3_GM.sf2, and pyworld. `scene.rttm` says who really speaks when.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from models.training import demo_scene, demo_song
from models.training.synth import RATE as BAND_RATE

RATE = 48000
FOLDER = Path("clients/web/public/demo")
THIN = {"song": 0.72, "scene": 0.8}  # libsndfile's compression, 0 to 1: about 150 and 55 kbit/s


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--score", action="store_true", help="separate the song and print what it gained")
    chosen = parser.parse_args(words)
    chosen.output.mkdir(parents=True, exist_ok=True)
    stems = demo_song.stems()
    write(chosen.output / "song.ogg", song(stems))
    people, turns = demo_scene.scene()
    write(chosen.output / "scene.ogg", people.sum(0))
    (chosen.output / "scene.rttm").write_text(demo_scene.rttm(turns))
    if chosen.score:
        score(stems)


def song(stems: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Their sum at `RATE`, `[T, 2]`."""
    return np.asarray(soxr.resample(np.sum(list(stems.values()), axis=0).T, BAND_RATE, RATE), np.float32)


def write(path: Path, pcm: NDArray[np.float32]) -> None:
    """Opus in Ogg, `[T]` or `[T, 2]`."""
    soundfile.write(path, pcm, RATE, format="OGG", subtype="OPUS", compression_level=THIN[path.stem])


def score(stems: dict[str, NDArray[np.float32]]) -> None:
    from models.registry import build
    from models.training.evaluate_music import song_figures

    for row in song_figures(build({})["music"].load(None), "song", stems):
        figures = ("sdr_mixture", "sdr", "sdr_gain", "si_sdr_mixture", "si_sdr", "si_sdr_gain")
        print(f"{row['stem']!s:8}", *(f"{name} {float(str(row[name])):6.2f}" for name in figures))


if __name__ == "__main__":
    main()
