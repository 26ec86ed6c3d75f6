"""A conversation on one page: who really spoke, and whose voice each track carried when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.bench.report import blank
from clients.bench.speakers_score import BLOCK, TORN, own_tracks, places, spoken
from clients.bench.speakers_talk import FRAME, RATE, Audio, numbered, read, speaking

COLOURS = ("#2a78b5", "#e07b26", "#3a9d5d", "#b0449b", "#c23b3b", "#8a6d3b", "#5b5bd6", "#2aa5a5")


def picture(path: Path, folder: Path, names: Sequence[str]) -> None:
    """Write a PNG of the conversation in `folder`: a band for the truth, one for each of `names`, a row a track.

    Colours are people. A row is as high as the track is loud; grey is a voice that is torn or a track that nobody is on.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    voices = read(numbered(folder, "person"))
    active = np.stack([speaking(voice) for voice in voices])
    figure = blank(12, 1 + 0.75 * (len(names) + 1))
    axes = figure.subplots(len(names) + 1, 1, sharex=True, squeeze=False)[:, 0]
    whole = float(np.sqrt(level(voices.sum(0)[None]).max()))
    truth = np.where(active[:, : active.shape[1] // BLOCK * BLOCK].reshape(len(voices), -1, BLOCK).any(2), 1, 0)
    for person, row in enumerate(truth):
        bars(axes[0], person, np.sqrt(level(voices)[person]) / whole * (row > 0), [COLOURS[person % 8]] * len(row))
    decorate(axes[0], "truth", len(voices))
    for axis, name in zip(axes[1:], names, strict=True):
        tracks = read(numbered(folder / "tracks" / name, "track"))
        place, seconds = places(voices, tracks, active), spoken(active)
        order = _by_person(own_tracks(place, seconds, len(tracks)), len(tracks))
        loud = np.sqrt(level(tracks)) / whole
        for row, track in enumerate(order):
            bars(axis, row, loud[track][: place.shape[1]], _colours(place, seconds, track))
        decorate(axis, name, len(tracks))
    axes[-1].set_xlabel("s")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def level(rows: Audio) -> Audio:
    """Mean square of each block, `[N, T] -> [N, blocks]`."""
    size = BLOCK * FRAME
    return np.asarray(np.square(rows[:, : rows.shape[1] // size * size].reshape(len(rows), -1, size)).mean(2))


def bars(axis: Any, row: int, height: Audio, colours: Sequence[str]) -> None:
    """Blocks of one track, loudness up and down from the middle of its row."""
    step = BLOCK * FRAME / RATE
    tall = np.clip(height, 0, 1) ** 0.6 * 0.9
    axis.bar(np.arange(len(tall)) * step, tall, step, bottom=-row - tall / 2, align="edge", color=list(colours))


def decorate(axis: Any, title: str, rows: int) -> None:
    axis.set(ylim=(-rows + 0.4, 0.6), yticks=[-row for row in range(rows)], yticklabels=range(1, rows + 1))
    axis.set_ylabel(title, rotation=0, ha="right", va="center")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _by_person(own: Sequence[int], tracks: int) -> list[int]:
    """The tracks in the order of the people whose they are."""
    order = list(dict.fromkeys(own))
    return order + [track for track in range(tracks) if track not in order]


def _colours(place: NDArray[np.int64], seconds: NDArray[np.float64], track: int) -> list[str]:
    """Of each block: that of whoever is on the track, grey where nobody is."""
    colours = []
    for block in range(place.shape[1]):
        there = np.flatnonzero(place[:, block] == track)
        torn = (place[:, block] == TORN).any()
        who = there[seconds[there, block].argmax()] if len(there) else None
        colours.append(COLOURS[who % 8] if who is not None else "#9a9a9a" if torn else "#dddddd")
    return colours
