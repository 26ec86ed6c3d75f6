"""The commands for who speaks when: `rivulet diarize`, `refine` and `score`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from server import diarize as offline
from server import files
from server.refine import refine as renamed
from server.turns_out import options
from streaming import der, rttm
from streaming.der import Errors
from streaming.rttm import Segment


class Backend(StrEnum):
    """Who listens."""

    rivulet = "rivulet"
    pyannote = "pyannote"


BAR = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"

ToRttm = Annotated[Path | None, typer.Option("--rttm", help="Write RTTM here; - for standard output.")]
ToJson = Annotated[Path | None, typer.Option("--json", help="Write JSON here; - for standard output.")]
Exclude = Annotated[bool, typer.Option("--exclude-overlaps", help="One speaker at a time.")]
Model = Annotated[
    str | None, typer.Option("-m", "--model", help="A diarizer's name or path; of pyannote, a pipeline's.")
]
Listener = Annotated[Backend, typer.Option(help="rivulet: as live. pyannote: its pipeline, offline.")]
Recording = Annotated[str, typer.Argument(help="Any audio or video file, or - for standard input.")]


def _fail(message: object) -> typer.Exit:
    typer.secho(f"rivulet: {message}", err=True, fg="red")
    return typer.Exit(2)


def diarize(
    file: Recording,
    rttm_file: ToRttm = None,
    json_file: ToJson = None,
    model: Model = None,
    backend: Listener = Backend.rivulet,
    profile: Annotated[str | None, typer.Option(help="How far the diarizer looks ahead: 1.04s.")] = None,
    max_speakers: Annotated[int | None, typer.Option(help="The most people that are told apart.")] = None,
    exclude_overlaps: Exclude = False,
    min_duration: Annotated[float | None, typer.Option(help="s; shorter turns are left out.")] = None,
    gap: Annotated[float | None, typer.Option(help="s; pauses of one speaker up to so long are closed.")] = None,
    onset: Annotated[float | None, typer.Option(help="Probability above which a turn begins.")] = None,
    offset: Annotated[float | None, typer.Option(help="Probability below which it ends.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Who speaks when in a file: a table, or RTTM and JSON files."""
    asked = {"min_duration_s": min_duration, "gap_threshold_s": gap, "onset": onset, "offset": offset}
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        if backend is Backend.pyannote:
            segments = _pyannote(file, model, exclude_overlaps, given or profile or max_speakers)
        else:
            chosen = options({**given, "exclude_overlaps": exclude_overlaps})
            source, diarizer = files.read(file), offline.load(model)
            with _bar(source, progress) as bar:
                segments = offline.diarize(source, diarizer, chosen, profile, max_speakers, bar.update)
        _write(segments, _name(file), rttm_file, json_file)
    except (ValueError, OSError, ImportError) as error:
        raise _fail(error) from None


def _bar(source: files.Source, progress: bool) -> tqdm[None]:
    total = source.samples / source.rate if source.samples else None
    return tqdm(total=total, unit="s", bar_format=BAR if total else None, disable=None if progress else True)


def _pyannote(file: str, model: str | None, exclusive: bool, others: object) -> list[Segment]:
    if model is None:
        raise ValueError("--backend pyannote needs -m FOLDER: a pipeline's config.yaml and what it names")
    if others:
        raise ValueError(
            "--backend pyannote decides by itself: of the options for turns it has --exclude-overlaps only"
        )
    return offline.with_pyannote(files.read(file), model, exclusive)


def refine(
    recording: Recording,
    live: Annotated[Path, typer.Argument(help="The turns of the session, RTTM or JSON.")],
    model: Annotated[str, typer.Option("-m", "--model", help="A pyannote pipeline: folder or hub name.")],
    exclude_overlaps: Exclude = False,
    rttm_file: ToRttm = None,
    json_file: ToJson = None,
) -> None:
    """Hear a finished session once more as a whole; speakers keep the numbers that they had live."""
    try:
        name, before = _one(live)
        segments = renamed(before, offline.with_pyannote(files.read(recording), model, exclude_overlaps))
        _write(segments, name, rttm_file, json_file)
    except (ValueError, OSError, ImportError) as error:
        raise _fail(error) from None
    if (errors := der.score(segments, before)).total:
        typer.echo(f"{100 * errors.rate:.1f} % of what was said was told otherwise live", err=True)


def score(
    reference: Annotated[Path, typer.Argument(help="RTTM or JSON.")],
    hypothesis: Annotated[Path, typer.Argument(help="RTTM or JSON, of the same recordings.")],
) -> None:
    """Diarization error rate: no collar, overlapped speech scored."""
    try:
        rows = _scores(_read(reference), _read(hypothesis))
    except (ValueError, OSError) as error:
        raise _fail(error) from None
    width = max(len(name) for name in (*rows, "recording"))
    typer.echo(f"{'recording':{width}}     DER  missed  false alarm  confusion   speech")
    for name, one in rows.items():
        shares = [100 * part / one.total if one.total else 0.0 for part in (one.missed, one.false_alarm, one.confusion)]
        parts = f"{shares[0]:6.2f}%  {shares[1]:10.2f}%  {shares[2]:8.2f}%"
        typer.echo(f"{name:{width}} {100 * one.rate:6.2f}% {parts} {one.total / offline.RATE:7.1f}s")


def _scores(reference: rttm.Recordings, hypothesis: rttm.Recordings) -> dict[str, Errors]:
    """By recording, and of all; of one on each side the names need not agree."""
    if len(reference) == len(hypothesis) == 1:
        (name, one), (other,) = next(iter(reference.items())), hypothesis.values()
        return {name: der.score(one, other)}
    if unknown := set(hypothesis) - set(reference):
        raise ValueError(f"got recording {min(unknown)!r}, the reference has {', '.join(sorted(reference)) or 'none'}")
    rows = {name: der.score(one, hypothesis.get(name, [])) for name, one in reference.items()}
    return rows | {"TOTAL": sum(rows.values(), Errors())}


def _one(path: Path) -> tuple[str, list[Segment]]:
    found = _read(path)
    if len(found) > 1:
        raise ValueError(f"got {path} of {len(found)} recordings, expected one")
    return next(iter(found.items()), (path.stem, []))


def _read(path: Path) -> dict[str, list[Segment]]:
    try:
        return rttm.parse(path.read_text("utf-8"), offline.RATE)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _name(file: str) -> str:
    return "stdin" if file == "-" else Path(file).stem


def _write(segments: list[Segment], name: str, rttm_file: Path | None, json_file: Path | None) -> None:
    """To the files that were asked for; a table when there are none."""
    if rttm_file is None and json_file is None:
        typer.echo(offline.table(segments))
    for path, form in ((rttm_file, rttm.write), (json_file, rttm.write_json)):
        if path is not None:
            text = form(segments, offline.RATE, name)
            if str(path) == "-":
                typer.echo(text, nl=False)
            else:
                path.write_text(text, "utf-8")
