"""Files in and out of a stream: any format that FFmpeg (inside PyAV) decodes, WAV and FLAC out, never whole in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import soundfile

from streaming.framing import Array


@dataclass(frozen=True)
class Source:
    """An opened recording: `rate` Hz, 1 or 2 `channels` (more are mixed down), about `samples` long (0: not known).

    `trimmed`: it ends at `samples` though the decoder gives more. Vorbis says so in its last page's position, and FFmpeg
    gives the whole of a last packet that lies beyond it.
    """

    rate: int
    channels: int
    samples: int
    container: Any
    trimmed: bool = False

    def chunks(self) -> Iterator[Array]:
        """All of it, `[channels, T]` float32, frame by frame."""
        resampler = av.AudioResampler(format="fltp", layout="stereo" if self.channels == 2 else "mono", rate=self.rate)
        left = self.samples if self.trimmed else None
        for frame in chain(self.container.decode(audio=0), [None]):
            for part in resampler.resample(frame):
                pcm = np.ascontiguousarray(part.to_ndarray()[:, :left], np.float32)
                left = None if left is None else left - pcm.shape[1]
                yield pcm


def read(path: str) -> Source:
    """Open a file, or standard input for `-`.

    Raises:
        ValueError: what cannot be decoded, or holds no audio.
    """
    try:
        container: Any = av.open(sys.stdin.buffer if path == "-" else path)
    except (OSError, ValueError) as error:
        raise ValueError(f"got {path}, which cannot be decoded: {error}") from None
    if not container.streams.audio:
        raise ValueError(f"got {path}, which holds no audio")
    stream = container.streams.audio[0]
    seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    trimmed = stream.codec_context.name == "vorbis" and bool(stream.duration)
    return Source(stream.rate, min(stream.channels, 2), round(seconds * stream.rate), container, trimmed)


class Stems:
    """One sound file a stem in a folder, begun at the first part and written as they come; a context manager."""

    def __init__(self, folder: Path, rate: int, extension: str = "wav", subtype: str = "PCM_16") -> None:
        self.folder, self.rate, self.extension, self.subtype = folder, rate, extension, subtype
        self._files: dict[str, soundfile.SoundFile] = {}
        self._stack = ExitStack()

    def write(self, part: dict[str, Array]) -> None:
        """`{name: [C, T]}`; samples beyond full scale clip, except in float files."""
        for name, pcm in part.items():
            if name not in self._files:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{name}.{self.extension}"
                file = soundfile.SoundFile(path, "w", self.rate, pcm.shape[0], subtype=self.subtype)
                self._files[name] = self._stack.enter_context(file)
            self._files[name].write(pcm.T if self.subtype == "FLOAT" else np.clip(pcm.T, -1, 1))

    def __enter__(self) -> Stems:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
