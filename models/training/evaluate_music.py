"""Four stems out of a song that was never trained on, and out of kinds of music that were never trained on.

Each held-out song is put together from its stems; only seconds in which at least two stems sound count (where one sounds
alone, the mixture is already right). Two measures, dB: SDR of the Music Demixing Challenge, and SI-SDR; of the mixture, of
the estimate, and the gain between them, stem by stem. Rows named "all" have the mean over the stems and the smallest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.separator import Separator
from models.training.data import STEMS, Track, floats, held_kinds, music_bank
from models.training.evaluate import Audio, Figures, sdr, si_sdr, streamed


def music_figures(model: Separator, data: Path, cache: Path) -> Figures:
    """A row for each stem of each held-out song, then of each piece of an unseen kind, where the cache has them."""
    _, held = music_bank(data, cache)
    rows = [row for song, stems in by_song(held).items() for row in song_figures(model, song, stems)]
    rows.append(summary("all songs", rows))
    strange = [row for song, stems in by_song(held_kinds(cache)).items() for row in song_figures(model, song, stems)]
    return [*rows, *strange, summary("all unseen kinds", strange)] if strange else rows


def by_song(tracks: Sequence[Track]) -> dict[str, dict[str, Audio]]:
    """Stems `[2, T]` of each song, by name."""
    names = sorted({track.song for track in tracks})
    return {name: {t.stem: floats(t.pcm, t.gain) for t in tracks if t.song == name} for name in names}


def song_figures(model: Separator, song: str, found: Mapping[str, Audio]) -> Figures:
    """A row for each stem of one song."""
    length, rate = max(pcm.shape[1] for pcm in found.values()), model.spec.rate
    target = np.zeros((len(STEMS), 2, length), np.float32)
    for row, stem in enumerate(STEMS):
        if stem in found:
            target[row, :, : found[stem].shape[1]] = found[stem]
    target *= np.float32(0.5 / max(1e-3, float(np.abs(target.sum(0)).max())))
    mixture = target.sum(0)
    estimate = streamed(model, mixture)[[model.spec.sources.index(stem) for stem in STEMS]]
    keep = busy_seconds(target, rate)
    rows: Figures = []
    for row, stem in enumerate(STEMS):
        wanted, told, mixed = target[row][:, keep], estimate[row][:, keep], mixture[:, keep]
        if keep.any() and np.square(wanted).mean() > 1e-8:
            measured: dict[str, float] = {}
            for name, measure in (("sdr", sdr), ("si_sdr", si_sdr)):
                before, after = measure(mixed, wanted), measure(told, wanted)
                measured |= {f"{name}_mixture": before, name: after, f"{name}_gain": after - before}
            rows.append({"song": song, "stem": stem, "seconds": round(keep.sum() / rate)} | measured)
    return rows


def summary(name: str, rows: Figures) -> dict[str, object]:
    """Mean over the rows and their smallest, of both gains."""
    told: dict[str, object] = {"song": name, "stem": "all"}
    for key in ("sdr_gain", "si_sdr_gain"):
        gains = [float(row[key]) for row in rows]
        told |= {f"{key}_mean": float(np.mean(gains)), f"{key}_min": min(gains)}
    return told


def busy_seconds(stems: Audio, rate: int) -> NDArray[np.bool_]:
    """`[T]`: samples in seconds in which at least two stems are above -60 dB of full scale."""
    whole = stems.shape[-1] // rate
    levels = np.square(stems[..., : whole * rate].reshape(len(stems), 2, whole, rate)).mean((1, 3))
    busy = np.repeat((levels > 1e-6).sum(0) > 1, rate)
    return np.asarray(np.pad(busy, (0, stems.shape[-1] - len(busy))))
