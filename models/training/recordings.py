"""Meetings as the published networks hear them, kept in a folder: what `listen` draws its examples from.

Hearing one takes half a second of one core a second of meeting, so it is done once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models import silero, voices_file
from models.training.meetings import Meeting, MeetingMixer
from models.voiceprint import LENGTH, REACH, WIDTH, Encoder, Mel, levelled
from models.voices_diarizer import VIEWED
from models.voices_network import SEGMENT
from models.voices_state import HOP

AHEAD = SEGMENT + HOP  # frames of silence before a meeting's first, and after its last


@dataclass(frozen=True)
class Recording:
    """What the published networks heard of a meeting, with silence around it.

    Attributes:
        active: `[F, P]`, with `AHEAD` frames before and after.
        logs: `[F, 41]` log power of `Mel`, half precision.
        speech: `[F]`, Silero's.
        voices: `[W, 3, 256]` centred unit vectors of the first 160, 120 and 80 frames of window i, which begins 80 frames
            before frame 40 i of the meeting; zeros where there is none.
        share: `[W, P]`, of each window.
        alone: `[W]`: one voice and enough of it.
        people: who they are, as in `Meeting`.
    """

    active: NDArray[np.bool_]
    logs: NDArray[np.float16]
    speech: NDArray[np.float32]
    voices: NDArray[np.float32]
    share: NDArray[np.float32]
    alone: NDArray[np.bool_]
    people: tuple[int, ...]

    def segment(self, window: int) -> slice:
        """The frames of the two seconds that end with a window."""
        end = AHEAD + HOP * window + LENGTH // 2
        return slice(end - SEGMENT, end)

    def views(self, window: int) -> NDArray[np.float32]:
        """The eight embeddings that `models.voices_diarizer` has of the segment, `[8, 256]`."""
        at = ((0, 0), (0, 1), (0, 2), (2, 2), (-1, 0), (-1, 1), (-1, 2), (1, 2))
        return np.stack([self.voices[window + step, kind] for step, kind in at])


def heard(meeting: Meeting, vad: silero.Silero, encoder: Encoder) -> dict[str, NDArray[Any]]:
    """The arrays of a meeting that are worth keeping."""
    frames = len(meeting.active)
    with torch.inference_mode():
        pcm = torch.from_numpy(meeting.pcm)[None]
        mels = Mel()(nn.functional.pad(pcm, (REACH, REACH)))[0, :frames]
        speech, _ = vad(nn.functional.pad(pcm, (0, -pcm.shape[1] % silero.STEP)), vad.start())
        windows = nn.functional.pad(mels, (0, 0, LENGTH // 2, LENGTH + LENGTH // 2)).unfold(0, LENGTH, HOP)
        voices = encoder.after(levelled(windows.transpose(1, 2)), VIEWED)
    return {
        "active": meeting.active,
        "people": np.array(meeting.people),
        "logs": mels.log().clamp(min=-25).numpy().astype(np.float16),
        "speech": speech[0].numpy(),
        "voices": voices.numpy().astype(np.float16),
    }


def recording(told: Mapping[str, NDArray[Any]], centre: NDArray[np.float32]) -> Recording:
    """A meeting ready to be drawn from."""
    active = np.pad(told["active"], ((AHEAD, AHEAD), (0, 0)))
    middles = (np.arange(len(told["active"])) * 160 + 80) // silero.STEP
    voices = told["voices"].astype(np.float32) - centre
    voices /= np.maximum(np.linalg.norm(voices, axis=-1, keepdims=True), 1e-6)
    starts = AHEAD + HOP * np.arange(len(voices)) - LENGTH // 2
    share = np.stack([active[start : start + LENGTH].mean(0, dtype=np.float32) for start in starts])
    most = share.max(1)
    return Recording(
        active,
        np.pad(told["logs"], ((AHEAD, AHEAD), (0, 0)), constant_values=-25),
        np.pad(told["speech"][middles], AHEAD),
        voices,
        share,
        (share.sum(1) - most <= 0.05) & (most > 0.4),
        tuple(told["people"].tolist()),
    )


def gathered(
    folder: Path, mixer: MeetingMixer, seed: int, count: int, people: Callable[[int], int]
) -> list[dict[str, NDArray[Any]]]:
    """Meetings `(seed, 0)` to `(seed, count - 1)` as heard; those that are not in `folder` yet are heard now."""
    folder.mkdir(parents=True, exist_ok=True)
    vad, encoder = silero.load().network, voices_file.load(Encoder(), "encoder")
    out = []
    for number in range(count):
        path = folder / f"{seed}-{number}.npz"
        if not path.is_file():
            meeting = mixer.one(np.random.default_rng((seed, number)), 48, people(number))
            if not meeting.people:
                continue
            np.savez(path, allow_pickle=False, **heard(meeting, vad, encoder))
        with np.load(path) as file:
            out.append(dict(file))
    return out


def middle(told: list[dict[str, NDArray[Any]]]) -> NDArray[np.float32]:
    """The mean of embeddings of one voice: what all voices have in common."""
    kept = [one["voices"][recording(one, np.zeros(WIDTH, np.float32)).alone, 0].astype(np.float64) for one in told]
    return np.asarray(np.concatenate(kept).mean(0), np.float32)
