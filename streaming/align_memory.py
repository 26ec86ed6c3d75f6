"""What alignment remembers of a window: what the voices sounded like, and who was on which track."""

from __future__ import annotations

import numpy as np

from streaming.align_cues import Heard, Rules, alone, together
from streaming.align_people import Pieces, remembered
from streaming.framing import Array


def learned_pieces(
    rules: Rules, pieces: Pieces | None, heard: Heard, order: tuple[int, ...], window: int
) -> Pieces | None:
    """With what each source of window number `window` said alone, if that was enough, on the track that it is now."""
    if heard.embeddings is None:
        return pieces
    told, frames = heard.embeddings[1], heard.alone.sum(1)
    tracks = [track for track, source in enumerate(order) if frames[source] >= rules.learn and _usable(told[source])]
    if not tracks:
        return pieces
    sources = [order[track] for track in tracks]
    parts = told[sources], frames[sources].astype(np.float32), np.full(len(tracks), window), np.array(tracks)
    more = Pieces(*parts, _spoke(heard, sources))
    return remembered(pieces, more, rules.most)


def _spoke(heard: Heard, sources: list[int]) -> Array:
    """Frames in which each person of the diarizer spoke alone while a source did, `[len(sources), N]`; N = 0 without one."""
    if heard.probs is None or not len(heard.probs):
        return np.zeros((len(sources), 0 if heard.probs is None else heard.probs.shape[1]), np.float32)
    lone = alone(heard)
    return np.asarray(heard.alone[sources, : len(lone)] @ lone, np.float32)


def _usable(voice: Array) -> bool:
    return bool(np.isfinite(voice).all() and voice.any())


def learned_bonds(rules: Rules, bonds: Array | None, heard: Heard, order: tuple[int, ...]) -> Array | None:
    """Whoever speaks alone belongs to the track that has the energy."""
    if heard.probs is None or not len(heard.probs):
        return bonds
    _, share, _ = together(heard)
    spoke = np.nan_to_num(share[:, list(order)].T @ alone(heard))
    return _bounded(rules, np.asarray(spoke if bonds is None else bonds + spoke, np.float32))


def _bounded(rules: Rules, bonds: Array) -> Array:
    """So that what was so a minute ago does not outweigh what is so now."""
    most = 10 * rules.settle
    return np.asarray(bonds * (most / np.maximum(bonds.sum(0), most)), np.float32)
