"""Recordings on disk to banks of 16-bit samples, once, so that drawing a random segment costs nothing.

Three layouts are understood:

- the manifest layout: `DIR/manifest.json` describes every file (role, speaker or song, licence, split);
- speakers of your own: `DIR/<speaker>/**/*.{wav,flac,ogg}`, one voice a folder;
- songs of your own: `DIR/<song>/{vocals,drums,bass,other}.{wav,flac,ogg}`, as in MUSDB18-HQ.

`split.json` beside this file names the speakers and songs that are never trained on. In a folder of your own, every
tenth name (at least one) is held out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

STEMS = ("vocals", "drums", "bass", "other")
AUDIO = {".wav", ".flac", ".ogg", ".mp3"}
FORMANTS = (0.84, 0.92, 1.09, 1.19)  # of the voices that `formants.py` makes
BLOCK = 22050  # samples; activity of a track is known to this precision

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class Clip:
    """One recording inside a bank: `pcm[start:start+length]` of `group` (a speaker)."""

    group: str
    start: int
    length: int


@dataclass(frozen=True)
class SpeechBank:
    """All speech, end to end. `pcm` is `[N]`; rooms are impulse responses `[n]`, direct sound first.

    `shifted` are the same recordings with other formants (`formants.py`), each like `pcm`; none where they were not made.
    """

    pcm: Samples
    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    rooms: tuple[NDArray[np.float32], ...]
    shifted: tuple[Samples, ...] = ()


@dataclass(frozen=True)
class Track:
    """One stem of one song (or rendered piece) over its whole length.

    `pcm` is `[2, N]` int16 of full scale `gain`; `active` marks blocks of `BLOCK` samples that are not silent.
    """

    song: str
    stem: str
    kind: str
    gain: float
    pcm: Samples
    active: NDArray[np.bool_]


def read_audio(path: Path, rate: int, channels: int) -> NDArray[np.float32]:
    """`[channels, N]` at `rate` Hz; mono is copied to both sides, stereo is averaged to mono."""
    pcm, native = soundfile.read(str(path), dtype="float32", always_2d=True)
    if native != rate:
        pcm = soxr.resample(pcm, native, rate)
    if pcm.shape[1] != channels:
        pcm = pcm.mean(1, keepdims=True) if channels == 1 else np.repeat(pcm[:, :1], channels, axis=1)
    return np.ascontiguousarray(pcm.T)


def floats(pcm: Samples, gain: float = 1.0) -> NDArray[np.float32]:
    """16-bit samples of full scale `gain` as numbers."""
    return np.asarray(pcm, np.float32) * np.float32(gain / 32768)


def held_out(kind: str, names: set[str]) -> set[str]:
    """Which of these speakers or songs are for validation."""
    written = set(json.loads((Path(__file__).parent / "split.json").read_text())[kind]["validation"])
    return (written & names) or set(sorted(names)[::10])


def manifest(data: Path) -> list[dict[str, Any]]:
    """The items of `DIR/manifest.json`; empty where there is none."""
    path = data / "manifest.json"
    items: list[dict[str, Any]] = json.loads(path.read_text())["items"] if path.is_file() else []
    return items


def speech_files(data: Path) -> tuple[list[tuple[str, Path]], list[Path]]:
    """(speaker, file) pairs and room responses. Share-alike recordings (fsdd) and guessed speakers of one are left out."""
    items = manifest(data)
    if not items:
        found = [(p.relative_to(data).parts[0], p) for p in sorted(data.glob("*/**/*")) if p.suffix in AUDIO]
        return found, []
    speech = [i for i in items if i["role"] == "speech_clean" and "SA" not in i["license"].split("-")]
    pairs = [(i.get("speaker") or i.get("speaker_guess"), data / i["file"]) for i in speech]
    rooms = [data / i["file"] for i in items if i["role"] == "room_impulse_response" and "spring" not in i["file"]]
    return [(str(speaker), path) for speaker, path in pairs if speaker], rooms


def room(path: Path, rate: int, keep_s: float = 0.35) -> NDArray[np.float32]:
    """An impulse response from its direct sound on, faded out over `keep_s` seconds, of unit energy."""
    response = read_audio(path, rate, 1)[0]
    response = response[int(np.argmax(np.abs(response))) :][: int(keep_s * rate)]
    response = response * np.linspace(1, 0, len(response), dtype=np.float32) ** 2
    return np.asarray(response / np.sqrt(np.square(response).sum() + 1e-12), np.float32)


def rooms(data: Path, cache: Path, rate: int) -> tuple[NDArray[np.float32], ...]:
    """Room responses: those that came with a pack, `cache/rooms.npz`, or those of the manifest."""
    packed = cache / "rooms.npz"
    if packed.is_file():
        with np.load(packed) as kept:
            return tuple(np.asarray(kept[name], np.float32) for name in kept.files)
    return tuple(room(path, rate) for path in speech_files(data)[1])


def formant_file(cache: Path, ratio: float) -> Path:
    """Where the speech with formants at `ratio` of their frequencies lies."""
    return cache / f"speech_formants_{round(100 * ratio):03d}.npy"


def speech_bank(data: Path, cache: Path, rate: int = 16000) -> SpeechBank:
    """Decode once into `cache`, map ever after.

    Raises:
        FileNotFoundError: no speech under `data`, naming what was looked for.
    """
    samples, index = cache / "speech.npy", cache / "speech.json"
    if not index.is_file():
        files, _ = speech_files(data)
        if not files:
            raise FileNotFoundError(f"{data}: got no speech, expected manifest.json or <speaker>/*.wav")
        cache.mkdir(parents=True, exist_ok=True)
        parts = [(who, read_audio(path, rate, 1)[0]) for who, path in files]
        parts = [(who, pcm / max(1e-3, float(np.abs(pcm).max())) * 0.9) for who, pcm in parts if len(pcm) > rate]
        np.save(samples, np.concatenate([(pcm * 32767).astype(np.int16) for _, pcm in parts]))
        starts = np.cumsum([0] + [len(pcm) for _, pcm in parts]).tolist()
        clips = [(who, start, len(pcm)) for (who, pcm), start in zip(parts, starts[:-1], strict=True)]
        index.write_text(json.dumps(clips))
    clips_read = [Clip(*entry) for entry in json.loads(index.read_text())]
    out = held_out("speech", {clip.group for clip in clips_read})
    return SpeechBank(
        np.load(samples, mmap_mode="r"),
        tuple(clip for clip in clips_read if clip.group not in out),
        tuple(clip for clip in clips_read if clip.group in out),
        rooms(data, cache, rate),
        tuple(np.load(path, mmap_mode="r") for path in map(partial(formant_file, cache), FORMANTS) if path.is_file()),
    )


def store_track(folder: Path, song: str, stem: str, kind: str, pcm: NDArray[np.float32]) -> None:
    """Write one track `[2, N]` as int16 with its facts beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    gain = max(1e-4, float(np.abs(pcm).max()))
    name = f"{kind}-{song}-{stem}"
    np.save(folder / f"{name}.npy", (pcm / gain * 32767).astype(np.int16))
    blocks = pcm[:, : pcm.shape[1] // BLOCK * BLOCK].reshape(2, -1, BLOCK)
    active = np.sqrt(np.square(blocks).mean((0, 2))) > 3e-3 * gain
    facts = {"song": song, "stem": stem, "kind": kind, "gain": gain, "active": active.astype(int).tolist()}
    (folder / f"{name}.json").write_text(json.dumps(facts))


def song_timelines(data: Path, rate: int) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Every song as four stems `[2, N]` on one timeline: clips summed at their place, effects counted as "other"."""
    songs: dict[str, dict[str, NDArray[np.float32]]] = {}
    if not manifest(data):
        for folder in sorted(path for path in data.iterdir() if path.is_dir()):
            found = {stem: next((p for p in folder.glob(f"{stem}.*") if p.suffix in AUDIO), None) for stem in STEMS}
            stems = {stem: read_audio(path, rate, 2) for stem, path in found.items() if path}
            if stems:
                songs[folder.name] = stems
        return songs
    items = [i for i in manifest(data) if i["role"].startswith("stem_")]
    for item in items:
        stem = item["role"].removeprefix("stem_").replace("fx", "other")
        pcm = read_audio(data / item["file"], rate, 2)
        start = round(item["song_start_s"] * rate)
        line = songs.setdefault(item["song"], {}).get(stem, np.zeros((2, 0), np.float32))
        line = np.pad(line, ((0, 0), (0, max(0, start + pcm.shape[1] - line.shape[1]))))
        line[:, start : start + pcm.shape[1]] += pcm
        songs[item["song"]][stem] = line
    return songs


def store_songs(data: Path, folder: Path, rate: int = 44100) -> None:
    """Decode all songs into `folder`, one track a stem, all of a song equally long and in proportion."""
    for song, stems in song_timelines(data, rate).items():
        length = max(pcm.shape[1] for pcm in stems.values())
        for stem, pcm in stems.items():
            store_track(folder, song, stem, "song", np.pad(pcm, ((0, 0), (0, length - pcm.shape[1]))))
    (folder / "songs.done").touch()


def tracks(folder: Path) -> list[Track]:
    """All tracks stored so far, memory-mapped."""
    found = []
    for facts in sorted(folder.glob("*.json")):
        f = json.loads(facts.read_text())
        pcm = np.load(facts.with_suffix(".npy"), mmap_mode="r")
        found.append(Track(f["song"], f["stem"], f["kind"], f["gain"], pcm, np.array(f["active"], bool)))
    return found


def music_bank(data: Path, cache: Path) -> tuple[list[Track], list[Track]]:
    """(training tracks, validation tracks). Rendered pieces, where `cache/tracks` has them, are for training.

    Raises:
        FileNotFoundError: no song under `data`, naming what was looked for.
    """
    folder = cache / "tracks"
    if not (folder / "songs.done").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        store_songs(data, folder)
    found = tracks(folder)
    songs = {track.song for track in found if track.kind == "song"}
    if not songs:
        raise FileNotFoundError(f"{data}: got no song, expected manifest.json or <song>/vocals.wav, drums.wav, ...")
    out = held_out("music", songs)
    found = [track for track in found if not track.kind.startswith("held-")]
    return [t for t in found if t.song not in out], [t for t in found if t.song in out]


def held_kinds(cache: Path) -> list[Track]:
    """Tracks of kinds that are never trained on (`training/unseen.py` makes them); empty where there are none."""
    return [track for track in tracks(cache / "tracks") if track.kind.startswith("held-")]


def song_excerpt(data: Path, song: str, start_s: float, seconds: float, rate: int) -> dict[str, NDArray[np.float32]]:
    """Stems `[2, T]` of one stretch of one song of the manifest; only the clips that fall into it are decoded."""
    length = int(seconds * rate)
    out = {stem: np.zeros((2, length), np.float32) for stem in STEMS}
    for item in manifest(data):
        shift = item.get("song_start_s", 0.0) - start_s
        if item.get("song") == song and item["role"].startswith("stem_") and -item["duration_s"] < shift < seconds:
            pcm = read_audio(data / item["file"], rate, 2)
            at = round(shift * rate)
            pcm, at = pcm[:, max(0, -at) :], max(0, at)
            pcm = pcm[:, : length - at]
            out[item["role"].removeprefix("stem_").replace("fx", "other")][:, at : at + pcm.shape[1]] += pcm
    return out
