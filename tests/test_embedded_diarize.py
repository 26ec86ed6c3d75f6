"""The diarizer that ships: transformers' own function from its own files, streamed, on people it never heard."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import serving
import sortformer_oracle as oracle
import torch

from models import diarizers, registry
from models.sortformer import SortformerDiarizer, load
from models.training.data import Clip, SpeechBank, held_out, read_audio, speech_files
from models.training.evaluate_diarize import real_conversation, smooth, whole
from models.training.meetings import MeetingMixer
from models.training.score_diarizer import errors
from streaming.framing import Array

FOLDER = registry.EMBEDDED / "diarize"
DATA = Path(__file__).parent.parent.parent / "shared" / "data"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def diarizer() -> SortformerDiarizer:
    return load(FOLDER)


@pytest.fixture(scope="module")
def talk() -> Array:
    found = real_conversation()
    if found is None:
        pytest.skip("pyannote.audio, which carries the recording, is not installed")
    return found[0]


def test_it_is_listed_and_small(diarizer: SortformerDiarizer) -> None:
    assert "diarize" in diarizers.build()
    assert "diarize" not in registry.build()  # it separates nothing
    assert diarizer.spec.licence == "CC-BY-4.0"
    assert diarizer.spec.speakers == 4
    assert {"1.04s", "0.32s"} <= set(diarizer.spec.profiles)
    assert sum(weight.numel() for weight in diarizer.network.parameters()) <= 5_000_000
    shipped = [path for path in registry.EMBEDDED.glob("*/*") if path.suffix in (".safetensors", ".npz", ".th")]
    assert sum(path.stat().st_size for path in shipped) <= 25_000_000


@pytest.mark.parametrize("name", ["1.04s", "0.32s"])
def test_it_is_transformers_own_function_in_any_packets(diarizer: SortformerDiarizer, talk: Array, name: str) -> None:
    """A real talk and its beginning again, so that the cache is compressed; both are heard as people."""
    from transformers import Nemotron3DiarizationForAudioFrameClassification as Model

    pcm = np.tile(talk, 2)[8 * 16000 : 41 * 16000]
    theirs = Model.from_pretrained(str(FOLDER), local_files_only=True, dtype=torch.float32).eval()
    expected, cache = oracle.stream(theirs, pcm, diarizer.spec.profiles[name])
    assert cache.is_compressed
    assert ((expected > 0.5).mean(0) > 0.05).sum() >= 2
    (together,) = whole(diarizer, [pcm], name)
    np.testing.assert_allclose(together, expected, atol=1e-4)
    state, told = diarizer.start(name), []
    for start in range(0, len(pcm), 4321):
        (probs,), (state,) = diarizer.run([pcm[start : start + 4321]], [state])
        told.append(probs)
    np.testing.assert_allclose(np.concatenate([*told, diarizer.finish(state)]), together, atol=1e-4)


def test_two_people_on_a_real_telephone(diarizer: SortformerDiarizer, talk: Array) -> None:
    found = real_conversation()
    assert found is not None
    (told,) = [smooth(probs) for probs in whole(diarizer, [talk], "1.04s")]
    *wrong, spoken = errors(told, found[1])
    assert sum(wrong) < 0.4 * spoken
    assert told[:550].any(1).mean() < 0.1  # the line is open, nobody has spoken, something clicks


async def test_a_session_names_it_and_gets_two_people(talk: Array) -> None:
    with serving.running({"speech": registry.from_path("speech", registry.EMBEDDED / "speech")}) as host:
        async with serving.connect(host) as peer:
            speakers = {"diarizer": "diarize@0.32s"}
            await peer.send(serving.start("speech", mode="speakers", live=False, speakers=speakers))
            reading = asyncio.create_task(serving.read_all(peer))
            for start in range(0, len(talk), 1600):
                await peer.send(talk[start : start + 1600].astype("<f4").tobytes())
            await peer.send(json.dumps({"type": "end"}))
            tracks, said = await reading
    assert said[0]["diarizer"] == "diarize"
    assert tracks is not None
    assert tracks.shape == (4, 1, len(talk))
    turns = {turn["id"]: turn for message in said if message["type"] == "speakers" for turn in message["turns"]}
    assert {turn["speaker"] for turn in turns.values()} >= {0, 1}
    assert all(turn["final"] for turn in turns.values())
    assert said[-1] == {"type": "done", "samples": len(talk)}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not in {DATA}")
def test_people_it_never_heard(diarizer: SortformerDiarizer) -> None:
    files, _ = speech_files(DATA)
    out = held_out("speech", {who for who, _ in files})
    chosen = [(who, path) for who, path in files if who in out]
    sounds = [read_audio(path, 16000, 1)[0] for _, path in chosen]
    starts = np.cumsum([0] + [len(pcm) for pcm in sounds])
    clips = tuple(
        Clip(who, int(start), len(pcm)) for (who, _), start, pcm in zip(chosen, starts[:-1], sounds, strict=True)
    )
    pcm = (np.concatenate([sound / np.abs(sound).max() for sound in sounds]) * 29490).astype(np.int16)
    mixer = MeetingMixer(SpeechBank(pcm, (), clips, (), ()), clips, speeds=(1.0,))
    held = [mixer.one(np.random.default_rng((5, k)), 40, 2 + k % 2) for k in range(4)]
    told = whole(diarizer, [meeting.pcm for meeting in held], "1.04s")
    total = np.sum([errors(smooth(t), m.active) for t, m in zip(told, held, strict=True)], 0)
    assert total[:3].sum() < 0.35 * total[3]


def test_its_card_names_what_it_is_made_of() -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["Nemotron3DiarizationForAudioFrameClassification"]
    card = (FOLDER / "README.md").read_text()
    assert (FOLDER / "spectrogram.png").is_file()
    for word in ("CC-BY-4.0", "LibriSpeech", "python -m models.training.evaluate models/embedded/diarize"):
        assert word in card
