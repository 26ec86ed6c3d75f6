"""What alignment remembers of a window: what the voices sounded like, and who was on which track."""

from __future__ import annotations

import numpy as np

from streaming.align_cues import Flags, Heard, Rules, Voices, together, unit
from streaming.framing import Array


def learned_voices(
    rules: Rules, voices: Voices | None, heard: Heard, order: tuple[int, ...], trusted: Flags
) -> Voices | None:
    """Voices become better known; one that is like no other is new. What is neither for certain is let be."""
    if heard.embeddings is None:
        return voices
    for track, source in enumerate(order):
        frames, told = int(heard.alone[source].sum()), heard.embeddings[source]
        if frames < rules.learn or not told.any() or not np.isfinite(told).all():
            continue
        on = np.zeros(len(order), np.float32)
        on[track] = frames * trusted[track]
        if voices is None:
            voices = Voices(frames * told[None], np.array([frames], np.float32), on[:, None])
            continue
        known = unit(voices.sums)
        nearest = int((known @ told).argmax())
        alike = float(known[nearest] @ told)
        if alike < rules.alike - rules.sure or _taken(rules, known[nearest], heard, source):
            voices = _founded(rules, voices, frames * told, frames, on)
        elif alike > rules.alike + rules.sure:
            voices = _heard_more(rules, voices, nearest, frames * told, frames, on)
    return voices


def _taken(rules: Rules, voice: Array, heard: Heard, source: int) -> bool:
    """Whether a voice is clearly that of another source of the same window: nobody speaks on two at once."""
    assert heard.embeddings is not None
    alike = heard.embeddings @ voice
    return bool(np.delete(alike, source).max() > max(alike[source], rules.alike) + 2 * rules.sure)


def _founded(rules: Rules, voices: Voices, told: Array, frames: int, on: Array) -> Voices:
    """With a new voice, in the place of the least known one if there are too many."""
    keep = np.arange(len(voices.frames))
    if len(keep) >= rules.most:
        keep = np.delete(keep, voices.frames.argmin())
    return Voices(
        np.concatenate((voices.sums[keep], told[None])),
        np.append(voices.frames[keep], np.float32(frames)),
        np.concatenate((voices.bonds[:, keep], on[:, None]), 1),
    )


def _heard_more(rules: Rules, voices: Voices, which: int, told: Array, frames: int, on: Array) -> Voices:
    more = (np.arange(len(voices.frames)) == which).astype(np.float32)
    bonds = _bounded(rules, voices.bonds + on[:, None] * more)
    return Voices(voices.sums + more[:, None] * told, voices.frames + more * np.float32(frames), bonds)


def learned_bonds(
    rules: Rules, bonds: Array | None, heard: Heard, order: tuple[int, ...], trusted: Flags
) -> Array | None:
    """Whoever speaks alone belongs to the track that has the energy."""
    if heard.probs is None or not len(heard.probs):
        return bonds
    people, share, sound = together(heard)
    lone = sound * (people.max(1) > 0.8)
    spoke = np.nan_to_num(share[:, list(order)].T @ (people * lone[:, None])) * trusted[:, None]
    return _bounded(rules, spoke if bonds is None else bonds + spoke)


def _bounded(rules: Rules, bonds: Array) -> Array:
    """So that what was so a minute ago does not outweigh what is so now."""
    most = 10 * rules.settle
    return np.asarray(bonds * (most / np.maximum(bonds.sum(0), most)), np.float32)
