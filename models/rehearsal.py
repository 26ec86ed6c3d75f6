"""What a long conversation costs: the state of a model in the middle of one.

A run of a model that tells speakers apart costs least at the beginning of a stream and in silence or noise, and most when
all its memories are full and somebody speaks. Whoever promises anything has to measure the latter. And what runs for the
first time in a process costs most of all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.separator import Separator
from streaming.framing import Array

TALK = Path(__file__).with_name("embedded") / "voiceprint" / "talk.flac"  # 3 s each of two people, 16 kHz
LONG = 32  # s after which a diarizer's memory is as full as it gets
WARM = 8  # s after which every part has run: two people have been told apart, and their voices compared


def rehearsed(separator: Separator, seconds: float = LONG) -> tuple[Any, Array]:
    """A state this far into a conversation, and the window that comes next, `[C, W]`, with speech in it."""
    import soundfile

    spec, window = separator.spec, separator.spec.framing.window
    said, rate = soundfile.read(TALK, dtype="float32")
    length = round(seconds * spec.rate) // window * window
    places = np.arange(length) * (rate / spec.rate) % len(said)  # round and round
    pcm = np.repeat(np.interp(places, np.arange(len(said)), said).astype(np.float32)[None], spec.channels, 0)
    state = separator.start()
    for at in range(0, length - window, window):
        _, (state,) = separator.run(pcm[None, :, at : at + window], [state])
    return state, pcm[:, length - window :]
