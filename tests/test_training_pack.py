"""Training material in a pack and out of it again: the same places, the same lengths, nearly the same sound."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.training import formants  # noqa: E402
from models.training.conversations import ConversationMixer  # noqa: E402
from models.training.data import FORMANTS, Clip, SpeechBank, Track, music_bank, speech_bank, store_track  # noqa: E402
from models.training.mixing import MusicMixer  # noqa: E402
from models.training.pack import alike, by_importance, by_speaker, expand, main, pack, size_of  # noqa: E402

ROOT = Path(__file__).parent.parent


def hum(seconds: float, rate: int, seed: int) -> np.ndarray:
    """A vowel-like sound, `[T]`: harmonics of a gliding pitch."""
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(100 + 20 * seed + 15 * np.sin(2 * np.pi * 1.3 * t)) / rate
    pcm = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    return np.asarray(0.9 * pcm / np.abs(pcm).max(), np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve speakers of two clips, and three songs of which one has a mono bass, beside rendered pieces."""
    folder = tmp_path_factory.mktemp("cache")
    clips = [hum(1.1 + 0.13 * k, 16000, k) for k in range(24)]
    starts = np.cumsum([0, *(len(clip) for clip in clips)]).tolist()
    np.save(folder / "speech.npy", (np.concatenate(clips) * 32767).astype(np.int16))
    index = [(f"s{k % 12:02}", starts[k], len(clip)) for k, clip in enumerate(clips)]
    (folder / "speech.json").write_text(json.dumps(index))
    response = np.zeros(500, np.float32)
    response[0], response[300] = 0.8, -0.6
    np.savez(folder / "rooms.npz", response)
    for song in ("a", "b", "c"):
        for number, stem in enumerate(("vocals", "drums", "bass", "other")):
            left, right = hum(2, 44100, number), hum(2, 44100, number + (stem != "bass"))
            store_track(folder / "tracks", song, stem, "song", 0.4 * np.stack([left, right]))
    for kind in ("midi", "shots"):
        for song in range(3):
            store_track(folder / "tracks", f"{kind}{song}", "drums", kind, 0.2 * np.stack([hum(1, 44100, 5)] * 2))
    (folder / "tracks" / "songs.done").touch()
    return folder


def ratio_db(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()))


def test_speech_comes_back_in_its_place(cache: Path, tmp_path: Path) -> None:
    main(["speech", "--out", str(tmp_path / "p"), "--cache", str(cache), "--data", str(tmp_path), "--limit-mib", "3"])
    assert size_of(tmp_path / "p") < 0.1 * (cache / "speech.npy").stat().st_size * 16 + 2e5
    expand(tmp_path / "p")
    before, after = speech_bank(tmp_path, cache), speech_bank(tmp_path, tmp_path / "p")
    for old, new in ((before.train, after.train), (before.validation, after.validation)):
        assert {(c.group, c.length) for c in old} == {(c.group, c.length) for c in new}
    for clip in after.train:
        twin = next(c for c in before.train if (c.group, c.length) == (clip.group, clip.length))
        wanted, found = (
            bank.pcm[c.start : c.start + c.length].astype(np.float64) for bank, c in ((before, twin), (after, clip))
        )
        assert ratio_db(wanted, found) > 10
        assert max(range(-4, 5), key=lambda lag: float(wanted[10:-10] @ np.roll(found, -lag)[10:-10])) == 0
    np.testing.assert_allclose(after.rooms[0], before.rooms[0], atol=1e-3)
    mixture, voices = ConversationMixer(after, after.train, 1.0).batch(np.random.default_rng(0), 2)
    assert mixture.shape == (2, 1, 16000)
    assert np.isfinite(voices).all()
    stamp = (tmp_path / "p" / "speech.npy").stat().st_mtime_ns
    expand(tmp_path / "p")
    assert (tmp_path / "p" / "speech.npy").stat().st_mtime_ns == stamp  # once


def test_voices_with_other_formants_are_made_again_where_the_pack_goes(cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(cache, own)
    formants.write(speech_bank(tmp_path, own), own)
    main(["diarize", "--out", str(tmp_path / "p"), "--cache", str(own), "--data", str(tmp_path), "--limit-mib", "3"])
    assert not list((tmp_path / "p").glob("*.npy"))
    expand(tmp_path / "p")
    before, after = speech_bank(tmp_path, own), speech_bank(tmp_path, tmp_path / "p")
    assert len(before.shifted) == len(after.shifted) == len(FORMANTS)
    assert all(part.shape == after.pcm.shape for part in after.shifted)
    assert not np.array_equal(after.shifted[0], after.pcm)


def test_music_comes_back_at_its_rate_length_and_level(cache: Path, tmp_path: Path) -> None:
    main(["music", "--out", str(tmp_path / "p"), "--cache", str(cache), "--data", str(tmp_path)])
    expand(tmp_path / "p")
    before, after = (
        {(t.kind, t.song, t.stem): t for part in music_bank(tmp_path, folder) for t in part}
        for folder in (cache, tmp_path / "p")
    )
    assert before.keys() == after.keys()
    for key, old in before.items():
        new = after[key]
        assert (new.pcm.shape, new.gain) == (old.pcm.shape, old.gain)
        np.testing.assert_array_equal(new.active, old.active)
        assert ratio_db(old.pcm.astype(np.float64), new.pcm.astype(np.float64)) > 15
        assert alike(new.pcm) == alike(old.pcm) == (key[2] == "bass" or key[0] != "song")
    trained, held = music_bank(tmp_path, tmp_path / "p")
    assert {t.song for t in held} == {t.song for t in music_bank(tmp_path, cache)[1]}
    mixture, stems = MusicMixer(trained, 0.5).batch(np.random.default_rng(0), 2)
    np.testing.assert_allclose(mixture, stems.sum(1), atol=1e-6)


def test_what_matters_most_goes_first() -> None:
    def track(song: str, kind: str, stem: str = "drums") -> Track:
        return Track(song, stem, kind, 1.0, np.zeros((2, 1), np.int16), np.ones(1, bool))

    tracks = [track(f"{kind}{k}", kind, stem) for kind in ("x", "song", "y") for k in range(3) for stem in "ab"]
    ordered = by_importance(tracks)
    assert sorted(map(id, ordered)) == sorted(map(id, tracks))
    assert [t.kind for t in ordered] == ["song"] * 6 + ["x", "x", "y", "y"] * 3
    assert [t.song for t in ordered[0::2]] == [t.song for t in ordered[1::2]]  # pieces stay whole
    clips = [Clip("a", 0, 1), Clip("a", 1, 1), Clip("b", 2, 1), Clip("a", 3, 1)]
    assert [clips.index(clip) for clip in by_speaker(clips)] == [0, 2, 1, 3]


def test_a_limit_keeps_a_part_of_everybody(cache: Path, tmp_path: Path) -> None:
    index = pack("speech", tmp_path, cache, tmp_path / "p", 0.19)
    kept = [group for group, _, _ in index["speech"]["clips"]]
    assert 2 <= len(kept) < 24
    assert len(set(kept)) == min(12, len(kept))
    assert size_of(tmp_path / "p") <= 0.19 * 2**20
    expand(tmp_path / "p")
    whole = SpeechBank(np.load(tmp_path / "p" / "speech.npy"), (), (), ())
    assert len(whole.pcm) == sum(length for _, _, length in index["speech"]["clips"])
    few = pack("music", tmp_path, cache, tmp_path / "m", 0.3)["tracks"]
    assert 0 < len(few) < 18
    assert len(list((tmp_path / "m" / "tracks").iterdir())) == len(few)
    assert size_of(tmp_path / "m") <= 0.3 * 2**20


def test_bad_packs_are_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["speech", "--data", str(tmp_path), "--cache", str(cache), "--out", str(tmp_path / "p")]
    with pytest.raises(SystemExit, match="too little for any"):
        main([*words, "--limit-mib", "0.13"])
    main(words)
    with pytest.raises(SystemExit, match="got a folder with a pack in it"):
        main(words)
    with pytest.raises(SystemExit, match="got no speech, expected"):
        main(["speech", "--data", str(tmp_path), "--cache", str(tmp_path / "no"), "--out", str(tmp_path / "q")])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SystemExit, match="pip could not fetch the wheels"):
        main([*words[:-1], str(tmp_path / "r"), "--wheels"])
    index = json.loads((tmp_path / "p" / "pack.json").read_text())
    index["speech"]["samples"] += 1
    (tmp_path / "p" / "pack.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"speech.opus: got \d+ samples, expected \d+"):
        expand(tmp_path / "p")
    (tmp_path / "p" / "pack.json").write_text('{"format": "zip"}')
    with pytest.raises(ValueError, match="got format 'zip', expected 'rivulet-pack-1'"):
        expand(tmp_path / "p")
    expand(cache)  # no pack: nothing happens
    assert not (cache / "pack.json").exists()


def test_the_script_in_the_pack_trains_leaves_pieces_and_goes_on_from_them(cache: Path, tmp_path: Path) -> None:
    pack("speech", tmp_path, cache, tmp_path / "p", 3)

    def go(out: str, steps: int) -> str:
        environment = {**os.environ, "OUT": str(tmp_path / out), "PIECE": "1m", "PYTHON": sys.executable}
        words = [
            "--steps",
            str(steps),
            "--blocks",
            "1",
            "--checks",
            "1",
            "--batch",
            "1",
            "--seconds",
            "0.5",
            "--device",
            "cpu",
        ]
        script = ["sh", str(tmp_path / "p" / "go.sh"), "100", *words, "--workers", "0"]
        done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert go("first", 1).startswith("step 1 ")
    pieces = sorted((tmp_path / "first").glob("last.pt.*"))
    assert len(pieces) > 2
    assert all(piece.stat().st_size <= 2**20 for piece in (tmp_path / "first").iterdir())
    listed = subprocess.run(
        ["tar", "-tf", str(tmp_path / "first" / "exported.tar")], capture_output=True, text=True, check=True
    )
    assert "exported/model.safetensors" in listed.stdout
    for path in (*pieces, tmp_path / "first" / "log.jsonl"):
        path.rename(tmp_path / "p" / path.name)
    assert go("second", 2).startswith("step 2 ")
    lines = (tmp_path / "second" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 1, 2, 2]
