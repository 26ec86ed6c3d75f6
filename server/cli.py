"""The `rivulet` command."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from models import diarizers, registry, weights
from models.separator import Separator
from models.stitched import continuous
from server import cli_speakers, files, keys, offline, remote
from streaming.framing import Array

# Worker threads of torch that spin while they wait for work take the core that the event loop needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Real-time streaming source separation.")
models_app = typer.Typer(no_args_is_help=True, help="List, fetch and verify models.")
app.add_typer(models_app, name="models")
app.add_typer(keys.app, name="keys")
for command in (cli_speakers.diarize, cli_speakers.refine, cli_speakers.score):
    app.command()(command)

Progress = Annotated[bool, typer.Option(help="Show a progress bar.")]


def _fail(message: object) -> typer.Exit:
    typer.secho(f"rivulet: {message}", err=True, fg="red")
    return typer.Exit(2)


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings; RIVULET_CONFIG.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; RIVULET_HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="RIVULET_PORT, else 8000.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A further model, NAME=PATH; may be repeated.")] = None,
    preload: Annotated[list[str] | None, typer.Option(help="Models to load before ready; may be repeated.")] = None,
    max_sessions: Annotated[int | None, typer.Option()] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let everybody in on a public address.")] = False,
    origin: Annotated[list[str] | None, typer.Option(help="A page that may connect, https://HOST; repeat.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM; with --tls-key: https and wss.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM.")] = None,
    rtc: Annotated[
        bool | None, typer.Option("--rtc/--no-rtc", help="WebRTC, over UDP; on unless said otherwise.")
    ] = None,
    rtc_ports: Annotated[str | None, typer.Option(help="UDP ports for it, FIRST-LAST; default: any.")] = None,
    rtc_public: Annotated[str | None, typer.Option(help="The address that others reach, behind a 1:1 NAT.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error or critical.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json, console, or auto: console on a terminal.")] = None,
) -> None:
    """Start the server: the page on /, streams on /v1/stream. Options go over RIVULET_* variables, those over the file."""
    from server import config as settings
    from server.run import prepare

    try:
        asked = {
            "config": config, "host": host, "port": port, "max_sessions": max_sessions, "insecure": insecure or None,
            "preload": tuple(preload or ()) or None, "origins": tuple(origin or ()) or None, "tls_cert": tls_cert,
            "tls_key": tls_key, "log_level": log_level, "log_format": log_format,
            "models": _named_paths(model or []) or None, "rtc": rtc, "rtc_public": rtc_public,
            "rtc_ports": _ports(rtc_ports) if rtc_ports else None,
        }  # fmt: skip
        run = prepare(settings.load(**asked), typer.echo)
    except (ValueError, OSError, weights.WeightsError) as error:
        raise _fail(error) from None
    run()


def _ports(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise ValueError(f"got --rtc-ports {text!r}, expected FIRST-LAST: 50000-50100")
    return int(first), int(last)


def _named_paths(pairs: Sequence[str]) -> dict[str, Path]:
    split = [pair.partition("=") for pair in pairs]
    if wrong := [name for name, equals, path in split if not (name and equals and path)]:
        raise ValueError(f"got --model {wrong[0]!r}, expected NAME=PATH")
    return {name: Path(path) for name, _, path in split}


@app.command()
def separate(
    file: Annotated[str, typer.Argument(help="Any audio or video file, or - for standard input.")],
    model: Annotated[
        str, typer.Option("-m", "--model", help="A name from `rivulet models list`, or a path.")
    ] = "music",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; default separated/NAME.")] = None,
    stems: Annotated[str | None, typer.Option(help="Only these, by commas.")] = None,
    two_stems: Annotated[str | None, typer.Option(help="This stem and everything else: karaoke.")] = None,
    latency: Annotated[float | None, typer.Option(help="ms; cut as a live stream of this latency would be.")] = None,
    server: Annotated[str | None, typer.Option(help="Stream to this server instead: ws://host:port.")] = None,
    flac: Annotated[bool, typer.Option("--flac", help="FLAC instead of WAV.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="32-bit float WAV: nothing clips.")] = False,
    progress: Progress = True,
) -> None:
    """Split a file into one sound file a stem, or a speaker: OUTPUT/<source>.wav."""
    if stems and two_stems:
        raise _fail("got --stems and --two-stems, expected one of them")
    if flac and float32:
        raise _fail("got --flac and --float32; FLAC has no floats")
    names = [two_stems, f"no_{two_stems}"] if two_stems else stems.split(",") if stems else None
    folder = output or Path("separated") / ("stdin" if file == "-" else Path(file).stem)
    kind = ("flac", "PCM_16") if flac else ("wav", "FLOAT" if float32 else "PCM_16")
    try:
        source = files.read(file)
        if server:
            run = remote.separate(source, server, model, names, latency)
        else:
            run = offline.separate(source, _loaded(model, names), names, latency)
        written = asyncio.run(_write(run, source, folder, *kind, progress=progress))
    except (ValueError, OSError, RuntimeError) as error:
        raise _fail(error) from None
    typer.echo(f"{written} samples a stem in {folder}/")


def _loaded(model: str, names: list[str] | None) -> Separator:
    """The model of this name or path, fetched first where that is needed."""
    entry = registry.find(registry.build(), model)
    if not entry.present(names):
        _fetch(entry, names)
    return continuous(entry.load(names), diarizers.encoder)


def _fetch(entry: registry.Entry, names: Sequence[str] | None = None) -> None:
    if entry.fetch is None:
        raise ValueError(
            f"the weights of {entry.name} are not on this machine, and there is nowhere to fetch them from"
        )
    with weights.bar(entry.name) as step:
        entry.fetch(step, names)


async def _write(
    run: AsyncIterator[dict[str, Array]],
    source: files.Source,
    folder: Path,
    extension: str,
    subtype: str,
    progress: bool,
) -> int:
    """Everything a run yields, to files; how many samples a stem."""
    written = 0
    with files.Stems(folder, source.rate, extension, subtype) as out, _bar(source, progress) as bar:
        async for part in run:
            out.write(part)
            length = next(iter(part.values())).shape[1]
            written += length
            bar.update(length / source.rate)
    return written


def _bar(source: files.Source, progress: bool) -> tqdm[None]:
    total = source.samples / source.rate if source.samples else None
    form = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]" if total else None
    return tqdm(total=total, unit="s", bar_format=form, disable=None if progress else True)


@models_app.command("list")
def list_models() -> None:
    """Every model: what it gives, and whether it is here."""
    for entry in registry.build().values():
        here = "here" if entry.present(None) else "to be fetched"
        channels = "stereo" if entry.channels == 2 else "mono"
        typer.echo(
            f"{entry.name:14} {entry.rate:6} Hz {channels:7} {here:14} {', '.join(entry.sources)}  [{entry.licence}]"
        )


@models_app.command()
def pull(name: str) -> None:
    """Fetch the weights of a model, once."""
    try:
        entry = registry.find(registry.build(), name)
        if not entry.present(None):
            _fetch(entry)
    except (ValueError, OSError, RuntimeError) as error:
        raise _fail(error) from None
    typer.echo(f"{name} is here")


@models_app.command()
def verify(name: Annotated[str | None, typer.Argument()] = None) -> None:
    """Load a model, or each that is here: reads every weight and checks every checksum."""
    entries = registry.build()
    try:
        for entry in [registry.find(entries, name)] if name else entries.values():
            if entry.present(None):
                spec = entry.load(None).spec
                typer.echo(f"{entry.name}: {', '.join(spec.sources)} at {spec.rate} Hz")
            elif name:
                raise _fail(f"the weights of {name} are not on this machine: rivulet models pull {name}")
    except (ValueError, OSError, RuntimeError) as error:
        raise _fail(error) from None


@app.command()
def doctor() -> None:
    """What this machine has, and what each embedded model costs on it."""
    import torch

    typer.echo(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    typer.echo(f"torch {torch.__version__}, {gpu}")
    for package in (
        "demucs",
        "fastapi",
        "uvicorn",
        "websockets",
        "av",
        "rivulet-client",
        "asteroid",
        "aiortc",
        "pyannote.audio",
    ):
        try:
            typer.echo(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package} not installed")
    entries = registry.build()
    for entry in entries.values():
        typer.echo(f"model {entry.name}: {'here' if entry.present(None) else f'rivulet models pull {entry.name}'}")
    for name in ("music", "speech"):
        if name in entries:
            cost = offline.real_time_factor(entries[name].load(None))
            typer.echo(f"{name}: {cost:.3f} seconds of computing a second of audio, hop by hop")
