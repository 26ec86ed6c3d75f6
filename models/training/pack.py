"""Training material small enough to carry to a machine with a GPU and without a network.

`python -m models.training.pack speech|music|diarize --out DIR` codes the decoded cache as Opus (RFC 6716) and writes
`DIR/go.sh`, which trains from it; `--wheels` puts the Python packages beside it that such a machine may lack. The other
way, `--cache DIR` of the trainer takes the pack and expands it once into the files of a cache.

Speech stays at its 16 kHz, one of the rates that Opus knows. Music goes to 48 kHz and comes back to 44.1 by resampling, cut
to the samples that it had. libsndfile takes off what the coder puts in front, so nothing shifts. What Opus changes (noise
15 to 25 dB below the sound, at these rates) is part of sources and mixtures alike, which still add up exactly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from models.training import formants
from models.training.data import Clip, Samples, SpeechBank, Track, floats, music_bank, speech_bank

FORMAT = "rivulet-pack-1"
SPEECH_KBIT, MONO_KBIT, SIDE_KBIT = 26.0, 56.0, 40.0  # a channel of speech, of mono music, of stereo
HEAD = 0.8  # of full scale: a decoder may exceed what the coder was given
MIB = 1 << 20
Item = TypeVar("Item")

WHEELS = {
    "speech": "soundfile soxr cffi pycparser safetensors",
    "music-hq": "demucs==4.1.0 julius einops pyyaml tqdm",
    "diarize": "transformers==5.23.0 tokenizers>=0.23.1,<0.24 huggingface-hub>=2.4,<3 httpx2 httpcore2 truststore anyio"
    " h11 idna regex filelock fsspec packaging pyyaml tqdm click typer typing-extensions",
}

GO = """#!/bin/sh
# Trains `MODEL` from this pack, without a network: OUT=FOLDER sh PACK/go.sh SECONDS [options of models.training]
# in the root of the repository. After SECONDS it saves and leaves. What OUT then holds, put into the pack, is where the
# next call goes on; always give the same --minutes, which are those of all calls together.
#   KEEP   a folder that outlives the call, if there is one: packages, decoded sound and the run stay in it, and the next
#          call goes on from there
#   CHECKPOINT=no  with KEEP: only the exported model and the log go to OUT
#   PIECE  files longer than this are split (15m): some places give only small ones back
#   PYTHON python3
set -eu
pack=$(cd "$(dirname "$0")" && pwd)
out=${OUT:?set OUT to the folder of the run}
python=${PYTHON:-python3}
piece=${PIECE:-15m}
seconds=$1
shift
site=${KEEP:-$(mktemp -d)}/site cache=${KEEP:+$KEEP/cache} run=${KEEP:+$KEEP/run}
cache=${cache:-$pack} run=${run:-$out}
mkdir -p "$out" "$run"
if [ -d "$pack/wheels" ]; then
  [ -d "$site" ] || "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$pack"/wheels/*.whl
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
[ -d "$cache" ] || cp -r "$pack" "$cache"
if [ ! -f "$run/last.pt" ] && ls "$pack"/last.pt* >/dev/null 2>&1; then
  cat "$pack"/last.pt* >"$run/last.pt"
  [ ! -f "$pack/log.jsonl" ] || cp "$pack/log.jsonl" "$run/"
fi
[ ! -f "$run/last.pt" ] || set -- --resume "$@"
workers=$(($(nproc) > 3 ? $(nproc) - 2 : 0))
code=0
timeout -s TERM "$seconds" "$python" -m models.training MODEL --data "$cache" --cache "$cache" --out "$run" \\
  --export "$run/exported" --workers "$workers" "$@" || code=$?
rm -f "$run/last.part"
if [ "$run" != "$out" ]; then
  cp -r "$run/." "$out"
  [ "${CHECKPOINT:-yes}" != no ] || rm -f "$out/last.pt"
fi
if [ -d "$out/exported" ]; then
  mkdir -p "$out/events" # TensorBoard's, where it is installed
  tar -C "$out" -cf "$out/exported.tar" exported events && rm -r "$out/exported" "$out/events"
fi
find "$out" -maxdepth 1 -type f -size +"$(echo "$piece" | tr m M)" | while read -r file; do
  split -b "$piece" -d "$file" "$file." && rm "$file"
done
[ "$code" = 124 ] || exit "$code" # 124: the time was up, and all is saved
"""


def level(kbit: float) -> float:
    """libsndfile's compression level for this many kbit/s of one channel: 1 is 6, 0 is 256."""
    return 1 - (kbit - 6) / 250


def alike(pcm: Samples) -> bool:
    """Whether both sides of `[2, N]` are the same but for rounding."""
    return bool(np.abs(pcm[0].astype(np.int32) - pcm[1]).max(initial=0) <= 2)


def in_turn(groups: Iterable[Sequence[Item]]) -> Iterator[Item]:
    """The first of each group, then the second of each, until all are empty."""
    for row in zip_longest(*groups):
        yield from (item for item in row if item is not None)


def by_speaker(clips: Sequence[Clip]) -> list[Clip]:
    """A clip of every speaker, then the next of each."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.group].append(clip)
    return list(in_turn(groups.values()))


def by_importance(tracks: Sequence[Track]) -> list[Track]:
    """All songs, then a piece of each kind in turn; pieces of a kind in an order that is arbitrary and always the same."""
    kinds: dict[str, dict[str, list[Track]]] = defaultdict(lambda: defaultdict(list))
    for track in tracks:
        kinds[track.kind][track.song].append(track)
    songs = [track for name in sorted(kinds.get("song", {})) for track in kinds["song"][name]]
    mixed = [
        sorted(pieces.items(), key=lambda piece: hashlib.sha1(piece[0].encode()).hexdigest())
        for kind, pieces in sorted(kinds.items())
        if kind != "song"
    ]
    return songs + [track for _, stems in in_turn(mixed) for track in stems]


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pack_speech(bank: SpeechBank, out: Path, room_for: int, rate: int = 16000) -> dict[str, Any]:
    """Write `out/speech.opus` of at most `room_for` bytes and `out/rooms.npz`; the index entry."""
    rooms = {str(k): response.astype(np.float16) for k, response in enumerate(bank.rooms)}
    np.savez_compressed(out / "rooms.npz", **rooms)  # type: ignore[arg-type]
    path, clips, samples = out / "speech.opus", [], 0
    room_for -= (out / "rooms.npz").stat().st_size
    options = {"format": "OGG", "subtype": "OPUS", "compression_level": level(SPEECH_KBIT)}
    with soundfile.SoundFile(str(path), "w", rate, 1, **options) as file:
        for clip in by_speaker((*bank.validation, *bank.train)):
            seconds = clip.length / rate + 8  # some are still on their way to the file
            if path.stat().st_size + 1.1 * 125 * SPEECH_KBIT * seconds > room_for:
                break
            file.write(floats(bank.pcm[clip.start : clip.start + clip.length]) * HEAD)
            clips.append((clip.group, samples, clip.length))
            samples += clip.length
    return {"rate": rate, "samples": samples, "clips": clips}


def pack_tracks(tracks: Sequence[Track], out: Path, room_for: int, rate: int = 44100) -> list[dict[str, Any]]:
    """Write `out/tracks/*.opus` until `room_for` bytes are full, the most important first; their index entries."""
    (out / "tracks").mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for track in by_importance(tracks):
        sides = 1 if alike(track.pcm) else 2
        pcm = soxr.resample(floats(track.pcm[:sides]).T * HEAD, rate, 48000)
        path = out / "tracks" / f"{len(entries):04}.opus"
        kbit = level(MONO_KBIT if sides == 1 else SIDE_KBIT)
        soundfile.write(str(path), pcm, 48000, format="OGG", subtype="OPUS", compression_level=kbit)
        room_for -= path.stat().st_size + track.active.size
        if room_for < 0:
            path.unlink()
            break
        facts = {"song": track.song, "stem": track.stem, "kind": track.kind, "gain": track.gain}
        active = "".join("01"[flag] for flag in track.active.astype(int))
        entries.append({**facts, "samples": track.pcm.shape[1], "file": f"tracks/{path.name}", "active": active})
    return entries


def fetch_wheels(model: str, folder: Path, python: str) -> None:
    """`pip download` of what the trainer needs beside torch and numpy, for 64-bit x86 Linux and this Python.

    Raises:
        subprocess.CalledProcessError: pip failed; it says why.
    """
    wanted = dict.fromkeys([*WHEELS["speech"].split(), *WHEELS.get(model, "").split()])
    platforms = [f"--platform=manylinux{name}_x86_64" for name in ("_2_28", "_2_27", "_2_17", "2014", "_2_5", "1")]
    words = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation=cp", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *words, "-d", str(folder), *wanted], check=True)


def expand(folder: Path) -> None:
    """Turn a pack into a cache, in place and once; any other folder is left as it is.

    Raises:
        ValueError: the pack is of another format, or a file in it is not as long as its index says.
    """
    if not (folder / "pack.json").is_file():
        return
    index = json.loads((folder / "pack.json").read_text())
    if index.get("format") != FORMAT:
        raise ValueError(f"{folder}/pack.json: got format {index.get('format')!r}, expected {FORMAT!r}")
    speech, entries = index.get("speech"), index.get("tracks", [])
    if speech and not (folder / "speech.json").is_file():
        expand_speech(folder, speech)
        (folder / "speech.json").write_text(json.dumps(speech["clips"]))
        if speech.get("formants"):
            formants.write(speech_bank(folder, folder), folder)
    if entries and not (folder / "tracks" / "songs.done").is_file():
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(lambda entry: expand_track(folder, entry), entries))
        (folder / "tracks" / "songs.done").touch()


def expand_speech(folder: Path, speech: dict[str, Any]) -> None:
    """`speech.opus` to `speech.npy`, `[N]`."""
    length, at = int(speech["samples"]), 0
    pcm = np.lib.format.open_memmap(folder / "speech.npy", "w+", np.int16, (length,))
    for block in soundfile.blocks(str(folder / "speech.opus"), 1 << 20, dtype="float32"):
        pcm[at : at + len(block)] = whole_numbers(block)[: length - at]
        at += len(block)
    if at != length:
        raise ValueError(f"{folder}/speech.opus: got {at} samples, expected {length}")
    pcm.flush()


def expand_track(folder: Path, entry: dict[str, Any], rate: int = 44100) -> None:
    """One `tracks/*.opus` to the two files that `data.tracks` reads."""
    path, length = folder / entry["file"], int(entry["samples"])
    coded, native = soundfile.read(str(path), dtype="float32", always_2d=True)
    pcm = soxr.resample(coded, native, rate)
    if abs(len(pcm) - length) > 2:
        raise ValueError(f"{path}: got {len(pcm)} samples, expected {length}")
    pcm = np.pad(pcm, ((0, max(0, length - len(pcm))), (0, 0)))[:length].T
    np.save(path.with_suffix(".npy"), whole_numbers(np.broadcast_to(pcm, (2, length))))
    facts = {key: entry[key] for key in ("song", "stem", "kind", "gain")}
    path.with_suffix(".json").write_text(json.dumps({**facts, "active": [int(flag) for flag in entry["active"]]}))


def whole_numbers(pcm: NDArray[np.float32]) -> Samples:
    """Decoded sound back to 16 bits and full scale."""
    return np.asarray(np.clip(np.round(pcm * (32768 / HEAD)), -32768, 32767), np.int16)


def pack(model: str, data: Path, cache: Path, out: Path, limit_mib: float) -> dict[str, Any]:
    """Write a pack of at most `limit_mib`, counting what `out` already holds; its index.

    Raises:
        ValueError: `out` is a pack already, or nothing fits.
    """
    if (out / "pack.json").is_file():
        raise ValueError(f"{out}: got a folder with a pack in it, expected a new one")
    out.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"format": FORMAT, "model": model}
    if model == "diarize" and (cache / "voices.npz").is_file():
        shutil.copy(cache / "voices.npz", out)
    room_for = int(limit_mib * MIB) - size_of(out) - 128 * 1024  # the index itself
    if model in ("music", "music-hq"):
        trained, held = music_bank(data, cache)
        index["tracks"] = pack_tracks([*trained, *held], out, room_for)
    else:
        bank = speech_bank(data, cache)
        index["speech"] = pack_speech(bank, out, room_for) | {"formants": model == "diarize" and len(bank.shifted) > 0}
    if not index.get("tracks") and not index.get("speech", {}).get("clips"):
        raise ValueError(
            f"got room for {max(0, room_for) // 1024} KiB of sound in {limit_mib:g} MiB, too little for any"
        )
    (out / "pack.json").write_text(json.dumps(index, separators=(",", ":")))
    (out / "go.sh").write_text(GO.replace("MODEL", model))
    return index


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.pack", description=__doc__)
    parser.add_argument("model", choices=("speech", "music", "music-hq", "diarize"))
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--limit-mib", type=float, default=60, help="of all files, wheels included")
    parser.add_argument("--wheels", action="store_true", help="fetch packages for a machine without a network")
    parser.add_argument("--python", default="3.12", help="version for which wheels are fetched")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    chosen = parser.parse_args(words)
    try:
        if chosen.wheels:
            fetch_wheels(chosen.model, chosen.out / "wheels", chosen.python)
        index = pack(chosen.model, chosen.data, chosen.cache, chosen.out, chosen.limit_mib)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"error: pip could not fetch the wheels (exit status {error.returncode})") from error
    seconds = {"speech": index["speech"]["samples"] / 16000} if "speech" in index else {}
    for entry in index.get("tracks", []):
        seconds[entry["kind"]] = seconds.get(entry["kind"], 0) + entry["samples"] / 44100
    parts = " ".join(f"{kind} {length / 60:.1f}" for kind, length in seconds.items())
    print(f"{chosen.out}: {size_of(chosen.out) / MIB:.1f} MiB; minutes: {parts}")


if __name__ == "__main__":
    main()
