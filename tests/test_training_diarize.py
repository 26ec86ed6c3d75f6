"""Simulated meetings, the diarizer's loss and error rate, and a few real steps of training."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.sortformer import load
from models.training.conversations import Speakers
from models.training.data import Clip, SpeechBank
from models.training.diarize import Diarize, astray, compressed, error_rate, in_order, masked
from models.training.evaluate_diarize import rttm_flags, smooth, whole
from models.training.formants import envelope, shifted
from models.training.meetings import FRAME, MeetingMixer, speaking, through
from models.training.sortformer import SLOTS, STACK, Network, Size, log_mels, stacked, streamed
from models.training.voices import encoder, mel_bands, mels

TINY = Size(hidden=32, layers=2, heads=2, head_hidden=16, cache=24, fifo=24, period=12)


@pytest.fixture(scope="module")
def bank() -> SpeechBank:
    """Six voices that differ in pitch: pulses through a resonance, in syllables with pauses."""
    rng = np.random.default_rng(0)
    parts, clips, at = [], [], 0
    for person in range(6):
        length = 4 * 16000
        t = np.arange(length) / 16000
        tone = sum(np.sin(2 * np.pi * k * (90 + 35 * person) * t) / k for k in range(1, 20))
        loud = (np.sin(2 * np.pi * 2.5 * t + person) > -0.6) * (t % 2 < 1.5)
        pcm = (tone * loud * 3000 + rng.normal(0, 2, length)).astype(np.int16)
        parts.append(pcm)
        clips.append(Clip(f"voice_{person}", at, length))
        at += length
    return SpeechBank(np.concatenate(parts), tuple(clips[:4]), tuple(clips[2:]), ())


def test_speech_is_where_the_sound_is_and_short_pauses_belong_to_it() -> None:
    pcm = np.zeros(16000, np.float32)
    pcm[3200:6400] = pcm[8000:11200] = 0.1 * np.random.default_rng(0).standard_normal(3200)
    assert np.flatnonzero(speaking(pcm)).tolist() == list(range(20, 70))  # the pause of 0.1 s is bridged
    assert np.flatnonzero(speaking(pcm, gap_s=0.05)).tolist() == [*range(20, 40), *range(50, 70)]


def test_a_meeting_tells_who_speaks_in_the_order_of_first_words(bank: SpeechBank) -> None:
    mixer = MeetingMixer(bank, bank.train)
    for seed in range(8):
        meeting = mixer.one(np.random.default_rng(seed), 20, 1 + seed % 4, clean=True)
        assert meeting.pcm.shape == (20 * 16000,)
        assert meeting.active.shape == (2000, len(meeting.people))
        first = meeting.active.argmax(0)
        assert meeting.active.any(0).all()
        assert (np.diff(first) >= 0).all()
        speakers = [person // 5 for person in meeting.people]
        assert len(set(speakers)) == len(speakers)  # never one voice as two people
        level = np.square(meeting.pcm.reshape(-1, FRAME)).mean(1)
        silent = ~meeting.active.any(1)
        assert level[silent].mean() < 0.05 * level[~silent].mean()


def test_through_is_convolution() -> None:
    rng = np.random.default_rng(4)
    for length, sizes in ((1, (3,)), (4000, (1, 700)), (50000, (1024, 5600))):
        pcm, *responses = (rng.standard_normal(n).astype(np.float32) for n in (length, *sizes))
        pcm[length // 4 : 3 * length // 4] = 0  # blocks of silence are left out
        meant = pcm
        for response in responses:
            meant = np.convolve(meant, response)
        np.testing.assert_allclose(through(pcm, responses), meant, atol=1e-2, rtol=1e-4)


def test_rooms_noise_and_telephones_keep_length_and_stay_finite(bank: SpeechBank) -> None:
    mixer = MeetingMixer(bank, bank.train)
    for seed in range(12):
        meeting = mixer.one(np.random.default_rng((1, seed)), 7.77, 3)
        assert meeting.pcm.shape == (777 * FRAME,)
        assert np.isfinite(meeting.pcm).all()
        assert np.abs(meeting.pcm).max() > 1e-3


def test_on_lines_meetings_begin_before_anybody_speaks_and_telephones_are_narrow(bank: SpeechBank) -> None:
    lines, plain = (MeetingMixer(bank, bank.train, lines=on) for on in (True, False))
    begins, silence, top = [], [], []
    for seed in range(24):
        meeting = lines.one(np.random.default_rng((3, seed)), 12, 2)
        begins.append(float(meeting.active.any(1).argmax() / 100))
        level = np.square(meeting.pcm.reshape(-1, FRAME)).mean(1)
        power = np.square(np.abs(np.fft.rfft(meeting.pcm)))
        if power[len(power) * 5 // 8 :].sum() < 1e-7 * power.sum():  # above 5 kHz
            top.append(seed)
            silence.append(float(np.percentile(level, 2) / level.mean()))
        assert meeting.pcm.shape == (12 * 16000,)
    assert 4 <= sum(begin > 1.5 for begin in begins) <= 14  # some 0.3 of them
    assert max(begins) < 8  # half of it at most, and the first words
    assert 2 <= len(top) <= 12  # a quarter
    assert max(silence) < 0.1
    assert sum(quiet > 1e-7 for quiet in silence) >= len(silence) / 2  # a line is heard, unless mu-law rounds it away
    waited = [plain.one(np.random.default_rng((3, seed)), 12, 2).active.any(1).argmax() / 100 for seed in range(24)]
    assert max(waited) < 3


def test_masks_leave_nothing_of_a_band_but_its_mean() -> None:
    hidden = []
    for seed in range(20):
        mels = np.random.default_rng(0).random((50, 128)).astype(np.float32)
        before = mels.copy()
        masked(np.random.default_rng(seed), mels)
        bands = (mels == mels[:1]).all(0)
        np.testing.assert_array_equal(mels[:, ~bands], before[:, ~bands])
        assert np.abs(mels[:, bands] - 0.5).max(initial=0) < 0.1
        hidden.append(int(bands.sum()))
    assert max(hidden) <= 32
    assert 4 <= sum(count > 0 for count in hidden) <= 16


def test_the_order_of_people_is_free_in_one_loss_and_asked_for_in_the_other() -> None:
    wanted = (torch.rand(3, 40, SLOTS, generator=torch.Generator().manual_seed(0)) > 0.6).float()
    logits = (wanted * 2 - 1) * 4
    weight = torch.ones(3, 40)
    right, best = in_order(logits, wanted, weight)
    swapped, again = in_order(logits[..., [1, 0, 3, 2]], wanted, weight)
    torch.testing.assert_close(best, again)
    torch.testing.assert_close(right, best)
    assert (swapped > right + 0.5).all()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
    torch.testing.assert_close(right.mean(), plain)


def test_heads_that_look_at_the_same_person_are_not_astray() -> None:
    share = torch.zeros(2, 30, SLOTS)
    share[:, :10, 0] = share[:, 10:18, 1] = share[:, 15:25, 2] = 1  # overlap, and silence at the end
    same = share @ share.transpose(1, 2)
    right = (same / same.sum(-1, keepdim=True).clamp(min=1e-9)).clamp(min=1e-9).log()[:, None].repeat(1, 3, 1, 1)
    assert float(astray(right, share)) == pytest.approx(0, abs=1e-5)
    even = torch.full_like(right, -np.log(30))
    one = torch.zeros(1, 30, SLOTS)
    one[:, :10, 0] = 1
    assert float(astray(even[:1], one)) == pytest.approx(np.log(3), abs=1e-5)


def test_a_network_with_more_layers_begins_as_the_one_with_fewer(bank: SpeechBank, tmp_path: Path) -> None:
    torch.manual_seed(2)
    small, large = Diarize(bank, None, TINY), Diarize(bank, None, replace(TINY, layers=3))
    before, after = small.network().eval(), large.network().eval()
    small.export(before, tmp_path, {})
    small.restore(before, tmp_path)
    large.restore(after, tmp_path)
    mels, silent = stacked(torch.randn(1, 160, 128)), torch.zeros(1, 20, dtype=torch.bool)
    torch.testing.assert_close(before(mels, silent)[0], after(mels, silent)[0])
    large.export(after, tmp_path / "large", {})
    with pytest.raises(ValueError, match="weights of another network"):
        small.restore(before, tmp_path / "large")


def test_error_rate_is_that_of_pyannote_metrics() -> None:
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    rng = np.random.default_rng(3)
    for _ in range(5):
        meant, told = (np.repeat(rng.random((30, n)) > 0.5, 10, 0) for n in (3, SLOTS))

        def annotation(flags: np.ndarray) -> Annotation:
            out = Annotation()
            for person in range(flags.shape[1]):
                for frame in np.flatnonzero(flags[::10, person]):
                    out[Segment(frame * 0.1, frame * 0.1 + 0.1), f"{person}-{frame}"] = f"p{person}"
            return out

        wrong, whole = error_rate(told, meant)
        oracle = DiarizationErrorRate(collar=0, skip_overlap=False)(
            annotation(meant), annotation(told), uem=Timeline([Segment(0, 30)])
        )
        assert wrong / whole == pytest.approx(oracle, abs=1e-6)


def test_what_a_stream_keeps_is_grouped_by_person_in_order_of_time() -> None:
    active = np.zeros((120, SLOTS), np.float32)
    active[:50, 0] = active[50:100, 1] = active[100:, 2] = 1
    kept = compressed(np.random.default_rng(0), active, TINY, doubt=0.0)
    assert kept.shape == (TINY.cache,)
    people = [active[k].argmax() if k >= 0 and active[k].any() else -1 for k in kept]
    groups = [p for p, before in zip(people, [None, *people], strict=False) if p != before and p >= 0]
    assert groups == [0, 1, 2]
    assert (kept < 0).sum() >= SLOTS  # the learned silence after each group
    for person in (0, 1, 2):
        own = [k for k, p in zip(kept, people, strict=True) if p == person]
        assert own == sorted(own)
        assert len(own) >= 3


def test_features_are_those_of_the_models_own_processor(bank: SpeechBank) -> None:
    from transformers import NemotronAsrStreamingFeatureExtractor

    pcm = MeetingMixer(bank, bank.train).one(np.random.default_rng(2), 4, 2).pcm
    own = log_mels(torch.from_numpy(pcm)[None])[0]
    theirs = NemotronAsrStreamingFeatureExtractor(feature_size=128)(pcm, sampling_rate=16000, return_tensors="pt")
    torch.testing.assert_close(own, theirs["input_features"][0, : len(own)], atol=1e-4, rtol=0)


def test_the_way_through_the_weights_is_the_models_own(bank: SpeechBank) -> None:
    torch.manual_seed(1)
    network = Network(TINY).eval()
    with torch.no_grad():
        network.model.silence_embeds.normal_()
        mels = log_mels(torch.from_numpy(MeetingMixer(bank, bank.train).one(np.random.default_rng(2), 4, 2).pcm)[None])
        silent = torch.zeros(1, 50, dtype=torch.bool)
        told, *_ = network(stacked(mels), silent)
        meant = network.model.model(input_features=mels).last_hidden_state
        torch.testing.assert_close(told, network.model.classifier(meant), atol=1e-4, rtol=0)
        silent[0, 7] = True
        frames = network.model.model.audio_tower.embedder(mels)
        frames[0, 7] = network.model.silence_embeds
        meant = network.model.model(inputs_embeds=frames).last_hidden_state
        torch.testing.assert_close(
            network(stacked(mels), silent)[0], network.model.classifier(meant), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("ratio", [0.84, 1.0, 1.19])
def test_formants_move_and_the_pitch_stays(ratio: float) -> None:
    """Pulses at 110 Hz through a resonance at 1000 Hz."""
    t = np.arange(16000 * 2)
    ringing = np.exp(-np.arange(400) / 60) * np.sin(2 * np.pi * 1000 * np.arange(400) / 16000)
    pcm = np.convolve((t * 110 // 16000 != (t - 1) * 110 // 16000).astype(np.float32), ringing)[: len(t)].astype(
        np.float32
    )
    heard = shifted(0.1 * pcm, ratio)
    assert heard.shape == pcm.shape
    power = np.abs(np.fft.rfft(heard * np.hanning(len(heard)))) ** 2
    spectrum = torch.stft(torch.from_numpy(heard), 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    peak = int(envelope(spectrum)[:, 40:-40].mean(1)[10:].argmax()) + 10
    assert peak * 16000 / 512 == pytest.approx(1000 * ratio, abs=70)
    lag = np.fft.irfft(power)[100:200].argmax() + 100
    assert 16000 / lag == pytest.approx(110, rel=0.02)


def test_a_few_steps_lower_the_loss_and_the_export_comes_back(bank: SpeechBank, tmp_path: Path) -> None:
    names = Speakers(bank, bank.train).names
    table = np.random.default_rng(0).random((len(names), 5, 256)).astype(np.float32)
    np.savez(tmp_path / "voices.npz", names=np.array(names), table=table)
    task = Diarize(bank, tmp_path / "voices.npz", TINY)
    torch.manual_seed(0)
    network = task.network()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for step in range(24):
        batch = tuple(torch.from_numpy(part) for part in task.batch(np.random.default_rng((0, step)), 3))
        rows, frames = batch[0].shape[:2]
        assert batch[1].shape == (rows, frames)
        assert batch[2].shape == (rows, frames * STACK, SLOTS)
        assert not batch[2].unflatten(1, (frames, STACK))[batch[1]].any()  # nobody speaks in the learned silence
        loss = task.loss(network, batch, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-6:]) < np.mean(losses[:6]) - 0.1
    task.export(network, tmp_path / "out", {"steps": "24"})
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json", "model.safetensors", "notes.txt", "processor_config.json",
    ]  # fmt: skip
    pcm = task.fixed[0].pcm[None, : 16000 * 6]
    network.eval()
    before = streamed(network, pcm, "low_latency")
    exported = load(tmp_path / "out")
    assert exported.spec.licence == "CC-BY-4.0"
    (after,) = whole(exported, list(pcm), "1.04s")
    assert before.shape == (1, 600, SLOTS)
    np.testing.assert_allclose(after, before[0], atol=2e-2)  # half precision
    assert set(task.validate(network, "cpu")) == {"der", "der_2", "der_3", "der_4", "speech_error"}


def test_a_teacher_of_other_speakers_is_refused(bank: SpeechBank, tmp_path: Path) -> None:
    np.savez(tmp_path / "voices.npz", names=np.array(["a", "b"]), table=np.zeros((2, 5, 256), np.float32))
    with pytest.raises(ValueError, match="other speakers than the bank"):
        Diarize(bank, tmp_path / "voices.npz", TINY)


def test_mel_bands_are_slaneys() -> None:
    from transformers.audio_utils import mel_filter_bank

    for bands, size in ((40, 400), (128, 512)):
        theirs = mel_filter_bank(size // 2 + 1, bands, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
        np.testing.assert_allclose(mel_bands(bands, size), theirs, atol=1e-6)


def test_the_teacher_hears_the_same_voice_as_nearer_than_another(bank: SpeechBank) -> None:
    if importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("the teacher's weights come with the package resemblyzer")
    network = encoder()
    said = [bank.pcm[c.start : c.start + c.length].astype(np.float32) / 32768 for c in bank.train]
    with torch.no_grad():
        one, same, other = (
            network(mels(pcm)[None])[0] for pcm in (said[0][:25600], said[0][32000:57600], said[3][:25600])
        )
    assert float(one @ same) > float(one @ other) + 0.05


def test_smoothing_drops_what_is_short_and_rttm_is_read(tmp_path: Path) -> None:
    told = np.zeros((100, 1), np.float32)
    told[10:13] = told[40:80] = 1
    told[60] = 0
    assert np.flatnonzero(smooth(told)[:, 0]).tolist() == list(range(40, 80))
    (tmp_path / "a.rttm").write_text(
        "SPEAKER a 1 0.10 0.20 <NA> <NA> x <NA> <NA>\nSPEAKER a 1 0.25 0.1 <NA> <NA> y <NA> <NA>\n"
    )
    flags = rttm_flags(tmp_path / "a.rttm", 50)
    assert np.flatnonzero(flags[:, 0]).tolist() == list(range(10, 30))
    assert np.flatnonzero(flags[:, 1]).tolist() == list(range(25, 35))


def test_an_export_is_where_training_may_go_on(bank: SpeechBank, tmp_path: Path) -> None:
    task = Diarize(bank, None, TINY)
    torch.manual_seed(1)
    old, new = task.network(), task.network()
    task.export(old, tmp_path / "out", {})
    task.restore(new, tmp_path / "out")
    for key, value in old.model.state_dict().items():
        torch.testing.assert_close(new.model.state_dict()[key], value, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="weights of another network"):
        other = Diarize(bank, None, Size(hidden=16, layers=1, heads=2, head_hidden=16, cache=24, fifo=24, period=12))
        other.restore(other.network(), tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        task.restore(new, tmp_path)
