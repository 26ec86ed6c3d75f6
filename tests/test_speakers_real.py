"""The speakers mode as it ships, on a real conversation and on what is none: the parts are `speech` and the default diarizer."""

from __future__ import annotations

import asyncio
import json
import resource
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serving
import soundfile
import streams
from typer.testing import CliRunner

from models import diarizers, registry
from models.modes import Modes
from models.speakers import Speakers
from server import cli
from streaming import rttm
from streaming.framing import Array

RATE = 16_000


@pytest.fixture(scope="module")
def modes() -> Modes:
    return Modes(registry.build(), diarizers.build(), diarizers.encoder, diarizers.vad)


@pytest.fixture(scope="module")
def conversation() -> tuple[Array, Path]:
    """30 s of two people on the telephone, and the file, beside which the reference lies."""
    found = find_spec("pyannote")
    for place in found.submodule_search_locations or () if found else ():
        path = Path(place) / "audio" / "sample" / "sample.wav"
        if path.is_file():
            return soundfile.read(path, dtype="float32")[0][None], path
    pytest.skip("pyannote.audio, which carries the recording, is not installed")


def composite(modes: Modes, **options: Any) -> Speakers:
    model = modes.entry(modes.registry["speech"], "speakers", options).load(None)
    assert isinstance(model, Speakers)
    return model


async def session(pcm: Array, rate: int = RATE, **asked: Any) -> tuple[Array | None, list[dict[str, Any]]]:
    """A file through a real server: the tracks and everything that was said."""
    entry = registry.from_path("speech", registry.EMBEDDED / "speech")
    with serving.running({"speech": entry}) as host:
        async with serving.connect(host) as peer:
            start = {"format": "f32le", "rate": rate, "channels": len(pcm), "live": False} | asked
            await peer.send(serving.start("speech", **start))
            reading = asyncio.create_task(serving.read_all(peer))
            for part in streams.chop(pcm, [rate // 10]):
                await peer.send(part.T.astype("<f4").tobytes())
            await peer.send(json.dumps({"type": "end"}))
            return await reading


async def test_a_real_conversation_page_and_command_line_say_the_same(
    conversation: tuple[Array, Path], tmp_path: Path
) -> None:
    pcm, path = conversation
    tracks, said = await session(pcm, mode="speakers", speakers={"max": 2})
    assert tracks is not None
    assert tracks.shape == (2, 1, pcm.shape[1])
    assert said[-1] == {"type": "done", "samples": pcm.shape[1]}
    told = {turn["id"]: turn for message in said if message["type"] == "speakers" for turn in message["turns"]}
    assert told
    assert all(turn["final"] for turn in told.values())
    checked = 0
    for turn in told.values():  # whoever has the turn has the sound
        inside = slice(turn["start"] + 1600, turn["end"] - 1600)
        if inside.stop - inside.start > 8000:
            checked += 1
            assert np.square(tracks[turn["speaker"], 0, inside]).sum() > 0.2 * np.square(pcm[0, inside]).sum()
    assert checked >= 2
    assert {turn["speaker"] for turn in told.values()} == {0, 1}
    out = tmp_path / "sample.rttm"
    ran = CliRunner().invoke(
        cli.app, ["diarize", str(path), "--rttm", str(out), "--max-speakers", "2", "--no-progress"]
    )
    assert ran.exit_code == 0, ran.output
    (lines,) = rttm.read(out.read_text(), RATE).values()
    by_line = sorted((one.start, one.end) for one in lines)
    by_session = sorted((turn["start"], turn["end"]) for turn in told.values())
    assert len(by_line) == len(by_session)
    assert (
        np.abs(np.array(by_line) - np.array(by_session)).max() <= 0.3 * RATE
    )  # the file ends; a session hears silence


async def test_stereo_at_another_rate_is_taken(conversation: tuple[Array, Path]) -> None:
    pcm = np.repeat(conversation[0][:, ::2][:, : 8 * 8000], 2, 0)
    tracks, said = await session(pcm, 8000, mode="speakers")
    assert tracks is not None
    assert tracks.shape == (4, 1, pcm.shape[1])
    assert said[0]["channels"] == 1
    assert said[-1] == {"type": "done", "samples": pcm.shape[1]}


async def test_nine_people_are_refused_with_the_numbers(conversation: tuple[Array, Path]) -> None:
    entry = registry.from_path("speech", registry.EMBEDDED / "speech")
    with serving.running({"speech": entry}) as host:
        async with serving.connect(host) as peer:
            await peer.send(serving.start("speech", mode="speakers", speakers={"max": 9}))
            error = json.loads(await peer.recv())
    assert error["code"] == "bad_message"
    assert "9" in error["message"]
    assert "8" in error["message"]


def test_music_is_nobody(modes: Modes) -> None:
    """Chords of decaying partials and drums of noise: no voice in them, so no track."""
    rng = np.random.default_rng(2)
    time = np.arange(12 * RATE) / RATE
    song = np.zeros_like(time)
    for beat in np.arange(0, 12, 0.5):
        since = np.maximum(time - beat, 0)
        on = time >= beat
        for note in rng.choice([110, 138.6, 164.8, 220, 277.2, 329.6], 3, replace=False):
            song += on * sum(np.exp(-since * (2 + k)) * np.sin(2 * np.pi * note * k * since) / k for k in range(1, 6))
        song += on * np.exp(-since * 40) * rng.standard_normal(len(time))
    song *= 0.1 / np.sqrt(np.mean(song**2))
    tracks = streams.stems(streams.run(composite(modes), [song[None].astype(np.float32)]))
    assert not tracks.any()


def test_silence_and_a_faint_hum_are_nobody(modes: Modes) -> None:
    hum = (1e-3 * np.sin(2 * np.pi * 50 * np.arange(10 * RATE) / RATE)).astype(np.float32)[None]
    for sound in (0 * hum, hum):
        assert not streams.stems(streams.run(composite(modes), [sound])).any()


@pytest.mark.slow
def test_an_hour_of_silence_with_a_word_at_the_end(modes: Modes, conversation: tuple[Array, Path]) -> None:
    """Nothing is told of it, nothing grows, and who speaks then is heard."""
    model = composite(modes)
    state, peak = model.start(), []
    silence = np.zeros((1, 1, 25 * model.hop), np.float32)
    for _ in range(-(-3600 * RATE // silence.size)):
        tracks, (state,) = model.run(silence, [state])
        assert not tracks.any()
        assert not (model.activity(state).probs > 0.5).any()
        peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peak[-1] - peak[len(peak) // 4] < 4096  # KiB
    speech = conversation[0][:, 7 * RATE : 15 * RATE]
    length = speech.shape[1] // model.hop * model.hop
    tracks, _ = model.run(speech[None, :, :length], [state])
    assert np.square(tracks).sum() > 0.3 * np.square(speech[:, : length - model.spec.framing.delay]).sum()
