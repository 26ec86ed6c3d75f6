"""Who speaks when in a file: the live diarizer and the same turns as in a session, without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from models import diarizers, pyannote_pipeline, threads
from models.diarizer import Diarizer
from server.files import Source
from streaming import mix, resample, rttm, turns
from streaming.framing import Array
from streaming.resample import Ratio
from streaming.rttm import Segment

RATE = 16_000
FRAME = RATE // 100
Progress = Callable[[float], object]  # seconds of the recording that were heard since the last call


def load(model: str | None = None) -> Diarizer:
    """A diarizer by name or path; None: the first that there is.

    Raises:
        ValueError, OSError: none of that name, or one that does not load, saying why.
    """
    return diarizers.find(model or next(iter(diarizers.build())))


def mono(source: Source, rate: int = RATE) -> Iterator[Array]:
    """The recording part by part, `[T]` float32 at `rate` Hz, channels averaged; NaN and Inf are silenced."""
    ratio = Ratio(source.rate, rate)
    state = resample.start(ratio, 1)
    for pcm in source.chunks():
        clean = np.nan_to_num(mix.fit(pcm, 1), nan=0.0, posinf=0.0, neginf=0.0)
        state, out = resample.push(ratio, state, clean)
        yield out[0]
    yield resample.finish(ratio, state)[0]


def probabilities(
    parts: Iterator[Array], diarizer: Diarizer, profile: str | None = None
) -> Iterator[tuple[Array, int]]:
    """What is told of who speaks, `[F, S]` and then more, each with the samples that were heard since the last.

    One frame for each `FRAME` samples in all.
    """
    threads.use(diarizer.spec.threads)
    state = diarizer.start(profile)
    for part in parts:
        (probs,), (state,) = diarizer.run([part], [state])
        yield probs, len(part)
    yield diarizer.finish(state), 0


def diarize(
    source: Source,
    diarizer: Diarizer,
    options: turns.Options,
    profile: str | None = None,
    speakers: int | None = None,
    progress: Progress = lambda seconds: None,
) -> list[Segment]:
    """The turns of a recording, by start, in samples of `RATE` Hz. `speakers`: the most that are told.

    Raises:
        ValueError: no such profile, or more speakers than the diarizer tells apart.
    """
    most = diarizer.spec.speakers
    if speakers is not None and not 1 <= speakers <= most:
        raise ValueError(f"got {speakers} speakers, {diarizer.spec.name} tells 1 to {most} apart")
    state, final = turns.start(options, speakers or most), []
    total = 0
    for probs, heard in probabilities(mono(source), diarizer, profile):
        state, events = turns.push(options, state, probs)
        final += [turn for turn in events.turns if turn.final]
        total += heard
        progress(heard / RATE)
    final += [turn for turn in turns.finish(options, state)[1].turns if turn.final]
    return sorted(
        Segment(turn.start * FRAME, min(turn.end * FRAME, total), rttm.speaker(turn.speaker)) for turn in final
    )


def with_pyannote(source: Source, model: str, exclusive: bool = False) -> list[Segment]:
    """The turns that a pipeline of pyannote.audio finds in the whole recording, in samples of `RATE` Hz.

    `model`: its folder, or a hub name that this machine's cache has.

    Raises:
        ValueError, OSError: no pipeline there; ImportError: pyannote.audio is not installed.
    """
    pcm = np.concatenate([np.zeros(0, np.float32), *mono(source)])
    found = pyannote_pipeline.diarize(model, pcm, RATE, exclusive)
    return sorted(Segment(one.start, one.end, rttm.speaker(one.speaker)) for one in found)


def table(segments: Sequence[Segment], rate: int = RATE) -> str:
    """For people: every turn, and how long each spoke."""
    if not segments:
        return "nobody speaks"
    lines = [f"{_clock(one.start, rate)}  {_clock(one.end, rate)}  {one.speaker}" for one in segments]
    spoken: dict[str, int] = {}
    for one in segments:
        spoken[one.speaker] = spoken.get(one.speaker, 0) + one.end - one.start
    sums = [f"{name}  {samples / rate:.1f} s" for name, samples in sorted(spoken.items())]
    return "\n".join([*lines, "", *sums])


def _clock(sample: int, rate: int) -> str:
    ms = sample * 1000 // rate
    return f"{ms // 3_600_000}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
