"""The recipe of the diarizer's own network: it hears in training what it hears in a stream, and it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from buzzing import talk

from models import silero, voices_file
from models.training.listen import Listen, hushed, met
from models.training.meetings import Meeting
from models.training.recordings import AHEAD, HOP, Recording, heard, recording
from models.training.run import Plan, Run
from models.voiceprint import Encoder
from models.voices_diarizer import VoicesDiarizer, load
from models.voices_network import FIRST, LAST, STACK, STEPS, Listener

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def meeting() -> Meeting:
    active = np.zeros((800, 2), bool)
    active[100:380, 0] = True
    active[360:700, 1] = True
    return Meeting(talk(8, seed=3), active, (0, 1))


@pytest.fixture(scope="module")
def diarizer() -> VoicesDiarizer:
    return load()


@pytest.fixture(scope="module")
def told(meeting: Meeting) -> dict[str, np.ndarray]:
    return heard(meeting, silero.load().network, voices_file.load(Encoder(), "encoder"))


@pytest.fixture(scope="module")
def one(told: dict[str, np.ndarray], diarizer: VoicesDiarizer) -> Recording:
    return recording(told, diarizer.listener.centre.numpy())


def test_it_hears_what_a_stream_hears(meeting: Meeting, one: Recording, diarizer: VoicesDiarizer) -> None:
    """Segments of a stream end at frame 40 k + 100, those of the recipe at 40 k + 80: with 20 frames before, at the same."""
    pcm = np.concatenate((np.zeros(20 * 160, np.float32), meeting.pcm))
    state, compared = diarizer.start("1.04s"), 0
    (state,) = diarizer._hear([pcm], [state])
    with torch.inference_mode():
        for window in range(14):
            (framed,) = diarizer._framed([state])
            segment = diarizer._segment([framed])
            frames = one.segment(window)
            if window >= 5:
                kept = one.logs[frames]  # in half precision
                np.testing.assert_allclose(segment.frames[0].log(), kept, atol=0.02)
                views = one.views(window)
                cosines = (segment.views[0].numpy() * views).sum(1)
                assert cosines[[0, 1, 2, 4, 5, 6]].min() > 0.999
                assert cosines.min() > 0.8  # at the level of another window
                compared += 1
            state = replace(framed, steps=framed.steps + 1, views=segment.views[0, :4])
    assert compared == 9


def test_what_is_asked_is_what_is_so(one: Recording) -> None:
    task, rng = Listen([one], [one], np.zeros(256, np.float32)), np.random.default_rng(0)
    speakers = set()
    for _ in range(200):
        logs, speech, views, people, counts, near, meant, speaking, _, _ = task.draw(rng, [one])
        assert logs.shape == (200, 41)
        assert speech.shape == (200,)
        assert views.shape == (8, 256)
        assert not meant[:, counts == 0].any()
        assert not np.linalg.norm(people[counts == 0], axis=1).any()
        np.testing.assert_allclose(np.linalg.norm(people[counts > 0], axis=1), 1, atol=1e-4)
        assert (speaking[:, 1] <= speaking[:, 0]).all()
        assert (meant.sum(1) <= speaking.sum(1)).all()
        assert (near <= 1.001).all()
        speakers.add(int(meant.any(0).sum()))
    assert {0, 1} <= speakers


def test_people_are_met_elsewhere(one: Recording) -> None:
    rng = np.random.default_rng(1)
    assert one.alone.any()
    centroid, count, near = met(rng, one, -99, 0)
    assert count > 0
    assert 0 < near <= 1.001
    assert np.linalg.norm(centroid) == pytest.approx(1, abs=1e-4)
    middle = int(np.flatnonzero(one.alone & (one.share.argmax(1) == 0)).mean())
    assert met(rng, one, middle, 0)[1] == 0  # they speak for three seconds, all of them near


def test_silence_is_now_and_then_put_in(one: Recording) -> None:
    rng, frames = np.random.default_rng(2), one.segment(8)
    logs, speech = one.logs[frames].astype(np.float32), one.speech[frames]
    shares = []
    for _ in range(300):
        out, faint, silent = hushed(rng, logs, speech)
        shares.append(silent.mean())
        np.testing.assert_array_equal(out[~silent], logs[~silent])
        assert (faint[silent] < 0.1).all()
    assert 0.05 < np.mean(np.array(shares) > 0) < 0.3
    assert 1.0 in shares


def test_segments_are_where_they_should_be(one: Recording, meeting: Meeting) -> None:
    frames = one.segment(6)
    active = one.active[frames].reshape(STEPS, STACK, -1)[FIRST:LAST].reshape(-1, 2)
    first = HOP * 6 + 80 - 200 + FIRST * STACK
    np.testing.assert_array_equal(active, meeting.active[first : first + (LAST - FIRST) * STACK])
    assert one.active[:AHEAD].sum() == one.active[-AHEAD:].sum() == 0


def test_it_learns_and_comes_back(one: Recording, tmp_path: Path) -> None:
    centre = np.full(256, 0.01, np.float32)
    run = Run(Listen([one], [one], centre), Plan(10, 8, 3e-3, warmup=1, seed=1), tmp_path)
    batch = run.task.batch(np.random.default_rng(3), 8)
    losses = [run.train_step(lambda: batch)["loss"] for _ in range(25)]
    assert min(losses[-5:]) < 0.6 * losses[0]
    run.export(tmp_path / "export")
    back = voices_file.load(Listener(), "listener", tmp_path / "export")
    np.testing.assert_allclose(back.centre.numpy(), centre)
    again = Run(run.task, run.plan, tmp_path / "again")
    again.begin_with(tmp_path / "export")
    figures = run.task.validate(again.network, "cpu")
    assert set(figures) == {"who_error", "speech_error", "overlap_error", "pure_error"}
    assert all(np.isfinite(value) for value in figures.values())
