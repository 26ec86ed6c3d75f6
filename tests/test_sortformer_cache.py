"""Which frames the speaker cache keeps: transformers' choice, and what it leaves open."""

from __future__ import annotations

import pytest
import sortformer_oracle as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Nemotron3DiarizationStreamingConfig
from transformers.models.nemotron3_diarization.modeling_nemotron3_diarization import Nemotron3DiarizationSpeakerCache

from models.sortformer_cache import Policy, compress

SILENCE = torch.full((1,), -1.0)


def numbered(frames: int) -> Tensor:
    """Frames that are their own numbers, `[T, 1]`."""
    return torch.arange(frames, dtype=torch.float32)[:, None]


def kept(probs: Tensor, length: int, policy: Policy | None = None) -> list[int]:
    """The numbers of the frames that are kept, -1 for silence."""
    embeds, _ = compress(numbered(len(probs)), probs, length, SILENCE, policy or Policy())
    return [int(number) for number in embeds[:, 0]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    speakers=st.integers(1, 8),
    share=st.integers(3, 40),
    more=st.integers(1, 60),
    pause=st.integers(0, 2),
    contrast=st.sampled_from([0.5, 3.0, 12.0]),
)
def test_chooses_as_transformers_does(
    seed: int, speakers: int, share: int, more: int, pause: int, contrast: float
) -> None:
    length = share * speakers
    probs = torch.sigmoid(
        contrast * torch.randn(length + more, speakers, generator=torch.Generator().manual_seed(seed))
    )
    config = Nemotron3DiarizationStreamingConfig(
        num_speakers=speakers, speaker_cache_length=length, speaker_cache_silence_frames_per_speaker=pause
    )
    theirs = Nemotron3DiarizationSpeakerCache(config)
    theirs.num_weak_boosted_frames = min(theirs.num_weak_boosted_frames, length + more)  # it fails with one speaker
    with oracle.settled():
        frames, chances = theirs._compress(numbered(length + more)[None], probs[None], SILENCE)
    ours = compress(numbered(length + more), probs, length, SILENCE, Policy(pause))
    assert torch.equal(ours[0], frames[0])
    assert torch.equal(ours[1], chances[0])
    assert ours[0].shape == (length, 1)


def test_of_equals_the_earlier_is_kept() -> None:
    alone = torch.zeros(40, 2)
    alone[:20, 0] = alone[20:, 1] = 1.0  # saturated: every score of a speaker is the same
    # New are those from 12 on. Three of each are raised most, then seven of each alike, of which four have room.
    assert kept(alone, 12) == [*range(12, 19), -1, 20, 21, 22, -1]


def test_speakers_in_order_each_in_time_each_with_silence_after() -> None:
    probs = torch.full((30, 3), 0.01)
    for frame in range(30):
        probs[frame, (2, 0, 1)[frame % 3]] = 0.9 + 0.003 * frame
    found = kept(probs, 15)
    assert [one % 3 if one >= 0 else -1 for one in found] == [1] * 4 + [-1] + [2] * 4 + [-1] + [0] * 4 + [-1]
    for speaker in (found[:4], found[5:9], found[10:14]):
        assert speaker == sorted(speaker)
        assert min(speaker) >= 16  # the surest


def test_nobody_speaks_nothing_is_kept() -> None:
    embeds, probs = compress(numbered(30), torch.full((30, 4), 0.2), 20, SILENCE, Policy())
    assert (embeds == -1).all()
    assert (probs == 0).all()


def test_a_quiet_speaker_keeps_a_share_beside_a_talker() -> None:
    probs = torch.full((100, 2), 0.02)
    probs[:90, 0], probs[90:, 1] = 0.99, 0.6
    found = kept(probs, 40)
    assert [one for one in found if one >= 90] == list(range(90, 100))


@pytest.mark.parametrize("change", [0, 1])
def test_arguments_stay_as_they_are(change: int) -> None:
    probs, embeds = torch.rand(30, 4, generator=torch.Generator().manual_seed(change)), numbered(30)
    before = probs.clone()
    compress(embeds, probs, 20, SILENCE, Policy())
    assert torch.equal(probs, before)
    assert torch.equal(embeds, numbered(30))
