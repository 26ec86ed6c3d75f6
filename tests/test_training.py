"""The training recipe on material made here: losses against an oracle, mixtures that add up, learning, resuming."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from models.bsrnn import BandSplitRNN  # noqa: E402
from models.bsrnn_config import Config  # noqa: E402
from models.bsrnn_file import network_from, save  # noqa: E402
from models.bsrnn_separator import load  # noqa: E402
from models.training.__main__ import main  # noqa: E402
from models.training.conversations import ConversationMixer  # noqa: E402
from models.training.data import STEMS, music_bank, speech_bank  # noqa: E402
from models.training.loop import Log, train  # noqa: E402
from models.training.losses import FLOOR, permutation_invariant, si_sdr, stems_loss  # noqa: E402
from models.training.mixing import Mixing, MusicMixer, resampled  # noqa: E402
from models.training.optimisers import optimiser  # noqa: E402
from models.training.run import Plan, Run, learning_rate  # noqa: E402
from models.training.separation import Separation, by_pitch, in_order  # noqa: E402
from models.training.workers import Workers  # noqa: E402

TINY = Config(
    name="tiny",
    rate=16000,
    channels=1,
    sources=("speaker_1", "speaker_2"),
    stft=128,
    groups=((4, 8, 1), (11, 3, 1)),
    features=12,
    hidden=12,
    narrow=4,
    bottleneck=12,
    blocks=1,
    interchangeable=True,
)
TINY_MUSIC = replace(TINY, name="stems", rate=44100, channels=2, sources=STEMS, additive=True, interchangeable=False)


def ticks(step: float = 0.25) -> Callable[[], float]:
    """A clock that moves by `step` seconds whenever it is read, so that two runs see the same time."""
    numbers = count()
    return lambda: next(numbers) * step


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven "speakers", each a slowly beating tone, as <speaker>/<n>.wav; two of them are held out."""
    folder = tmp_path_factory.mktemp("speakers")
    for who in range(11):
        (folder / f"speaker{who}").mkdir()
        t = np.arange(2 * 16000) / 16000
        tone = np.sin(2 * np.pi * (250 * 1.35**who) * t) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
        soundfile.write(folder / f"speaker{who}" / "0.wav", 0.3 * tone, 16000)
    return folder


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs of noise, each stem in a band of its own, as <song>/<stem>.wav."""
    folder, rng = tmp_path_factory.mktemp("songs"), np.random.default_rng(0)
    for song in ("one", "two", "three"):
        (folder / song).mkdir()
        for stem, top in zip(("bass", "other", "vocals", "drums"), (1000, 4000, 9000, 20000), strict=True):
            spectrum = np.fft.rfft(rng.normal(0, 1, (44100, 2)), axis=0)
            spectrum[: top // 3] = spectrum[top:] = 0
            pcm = np.fft.irfft(spectrum, axis=0)
            soundfile.write(folder / song / f"{stem}.wav", 0.5 * pcm / np.abs(pcm).max(), 44100)
    return folder


def speech_task(speakers: Path, cache: Path, ordered: float = 0.0) -> Separation:
    bank = speech_bank(speakers, cache)
    assert {clip.group for clip in bank.validation}.isdisjoint(clip.group for clip in bank.train)
    mixer = ConversationMixer(bank, bank.train, 0.5)
    return Separation(TINY, mixer, ConversationMixer(bank, bank.train, 0.5), ordered, batches=1)


def music_task(songs: Path, cache: Path) -> Separation:
    tracks, held = music_bank(songs, cache)
    return Separation(
        TINY_MUSIC, MusicMixer(tracks, 0.3), MusicMixer(held, 0.3, mixing=Mixing(coherent=0.5)), batches=1
    )


def steps_of(run: Run, number: int) -> list[float]:
    """Losses of this many steps, drawn in the loop."""
    with Workers(run.task, run.plan.seed, run.plan.batch, run.step) as ahead:
        return [run.train_step(ahead.next)["loss"] for _ in range(number)]


def test_si_sdr_is_the_ratio_of_the_projection_to_the_rest() -> None:
    rng = np.random.default_rng(1)
    target, other = rng.normal(size=1000), rng.normal(size=1000)
    other -= (other @ target) / (target @ target) * target
    other *= np.linalg.norm(target) / np.linalg.norm(other) / 10
    found = si_sdr(torch.tensor(0.3 * (target + other))[None], torch.tensor(target)[None])
    assert float(found) == pytest.approx(20.0, abs=1e-6)


def floored(estimate: np.ndarray, target: np.ndarray, mixture: np.ndarray) -> float:
    """The loss of one source, written by hand."""
    own, whole = (target**2).sum(), (mixture**2).sum()
    reference = own if own > 1e-4 * whole else whole
    return float(10 * np.log10((((estimate - target) ** 2).sum() + FLOOR * reference) / reference))


@pytest.mark.parametrize("silent", [False, True])
def test_permutation_invariant_loss_is_the_minimum_over_orders(silent: bool) -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=(5, 3, 1, 200))
    if silent:
        target[:, 1] = 0
    estimate, mixture = target[:, [2, 0, 1]] + rng.normal(size=target.shape) * 0.5, target.sum(1)
    loss, order = permutation_invariant(*(torch.tensor(part) for part in (estimate, target, mixture)))
    for row in range(5):
        costs = {
            way: np.mean([floored(estimate[row, o], target[row, s], mixture[row]) for s, o in enumerate(way)])
            for way in permutations(range(3))
        }
        assert float(loss[row]) == pytest.approx(min(costs.values()), abs=1e-5)
        assert tuple(order[row].tolist()) == min(costs, key=lambda way: costs[way])


def test_stems_loss_keeps_the_order() -> None:
    rng = np.random.default_rng(3)
    target, estimate = rng.normal(size=(2, 4, 2, 100)), rng.normal(size=(2, 4, 2, 100))
    found = stems_loss(torch.tensor(estimate), torch.tensor(target), torch.tensor(target.sum(1)))
    for row in range(2):
        costs = [floored(estimate[row, s], target[row, s], target[row].sum(0)) for s in range(4)]
        assert float(found[row]) == pytest.approx(np.mean(costs), abs=1e-5)
        weighted = stems_loss(*map(torch.tensor, (estimate, target, target.sum(1))), weights=(3, 1, 0, 1))
        assert float(weighted[row]) == pytest.approx(np.average(costs, weights=(3, 1, 0, 1)), abs=1e-5)


def test_resampling_keeps_a_tone() -> None:
    t = np.arange(5000)
    found = resampled(np.sin(0.1 * t).astype(np.float32), 1.1, 4000)
    np.testing.assert_allclose(found, np.sin(0.1 * (1.1 * np.arange(4000) + 1)), atol=2e-4)


def test_music_mixtures_are_the_sum_of_their_stems(songs: Path, tmp_path: Path) -> None:
    tracks, held = music_bank(songs, tmp_path)
    assert {t.song for t in held}
    assert {t.song for t in held}.isdisjoint(t.song for t in tracks)
    mixer = MusicMixer(tracks, seconds=0.5, mixing=Mixing(coherent=0.5))
    mixture, stems = mixer.batch(np.random.default_rng(4), 4)
    assert mixture.shape == (4, 2, 22050)
    np.testing.assert_allclose(mixture, stems.sum(1), atol=1e-6)
    again, _ = mixer.batch(np.random.default_rng(4), 4)
    np.testing.assert_array_equal(mixture, again)


def test_missing_data_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected"):
        speech_bank(tmp_path, tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="expected"):
        music_bank(tmp_path, tmp_path / "cache")


def test_the_schedule_ends_with_the_clock() -> None:
    plan = Plan(minutes=1, warmup=10, rate=1.0)
    assert learning_rate(plan, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(plan, 100, 30.0) == pytest.approx(0.5)
    assert learning_rate(plan, 100, 60.0) == learning_rate(plan, 100, 90.0) == pytest.approx(0.0)


@pytest.mark.parametrize("kind", ["speech", "music"])
def test_a_few_steps_make_the_loss_fall_and_export(kind: str, speakers: Path, songs: Path, tmp_path: Path) -> None:
    task = speech_task(speakers, tmp_path) if kind == "speech" else music_task(songs, tmp_path)
    run = Run(task, Plan(minutes=60, batch=4, rate=1e-2, warmup=5), tmp_path / "run")
    before = np.mean(steps_of(run, 5))
    steps_of(run, 50)
    assert np.mean(steps_of(run, 5)) < before - 0.8
    train(run, tmp_path / "export", tell=lambda line: None, steps=run.step + 1)
    weights = load(tmp_path / "export").network.state_dict()
    for key, value in run.average.state_dict().items():
        assert torch.allclose(weights[key], value, atol=2e-3), key
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [set(line) >= {"loss", "norm", "rate"} for line in lines] == [True, False]
    assert next(key for key in lines[1] if key not in ("step", "minutes")) == "si_sdr_gain"
    if importlib.util.find_spec("tensorboard"):
        assert any(path.stat().st_size for path in (tmp_path / "run" / "events").iterdir())


def test_teachers_are_asked_by_their_shares(songs: Path, tmp_path: Path) -> None:
    """With all of the loss theirs the network comes nearer to their mean, whatever the stems are."""
    tracks, held = music_bank(songs, tmp_path / "cache")
    folders = [tmp_path / name for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        network = BandSplitRNN(TINY_MUSIC)  # which begins with a quarter of the mixture for all
        with torch.no_grad():
            for weight in network.parameters():
                weight += 0.3 * torch.randn_like(weight)
        save(network, folder)

    def taught(**options: Any) -> Separation:
        return Separation(TINY_MUSIC, MusicMixer(tracks, 0.3), MusicMixer(held, 0.3), 0, 1, **options)

    task = taught(teachers=folders, shares=(3, 1), taught=1.0)
    mixture, stems = (torch.from_numpy(part) for part in task.batch(np.random.default_rng(0), 4))
    first, second = (load(folder).network(mixture) for folder in folders)
    torch.testing.assert_close(task.teachers.lesson(mixture), (3 * first + second) / 4)
    run = Run(task, Plan(minutes=60, batch=4, rate=1e-2, warmup=5), tmp_path / "run")

    def cost(task: Separation, stems: torch.Tensor) -> float:
        with torch.no_grad():
            return float(task.loss(run.network, (mixture, stems), 0))

    before = cost(task, stems)
    assert cost(task, torch.zeros_like(stems)) == pytest.approx(before)
    steps_of(run, 40)
    assert cost(task, stems) < before - 1
    assert cost(taught(teachers=folders, taught=0.0), stems) == pytest.approx(cost(taught(), stems))
    assert not pickle.loads(pickle.dumps(task)).teachers
    with pytest.raises(ValueError, match="got 1 shares, expected one for each of 2 teachers"):
        taught(teachers=folders, shares=[1])
    with pytest.raises(FileNotFoundError, match="expected a folder with model"):
        taught(teachers=[tmp_path / "nobody"])
    speaking = tmp_path / "speaking"
    save(BandSplitRNN(TINY), speaking)
    with pytest.raises(ValueError, match="expected one of stems: vocals"):
        taught(teachers=[speaking])


def test_resuming_in_the_middle_goes_on_as_if_never_stopped(speakers: Path, tmp_path: Path) -> None:
    """To the bit, on a clock that both runs read alike: weights, averages, schedule, log, validations."""
    task, plan = speech_task(speakers, tmp_path / "cache"), Plan(minutes=0.1, batch=2, every=0.7)
    whole = Run(task, plan, tmp_path / "whole", clock=ticks())
    train(whole, None, tell=lambda line: None, steps=7)
    first = Run(task, plan, tmp_path / "parts", clock=ticks())
    train(first, None, tell=lambda line: None, steps=4)
    second = Run(task, plan, tmp_path / "parts", clock=ticks())
    second.resume()
    assert (second.step, second.elapsed) == (4, first.elapsed)
    train(second, None, tell=lambda line: None, steps=7)
    for one, other in ((whole.network, second.network), (whole.average, second.average)):
        assert same(one, other, 0)
    lines = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    assert lines[0][-2:] == lines[1][-2:]


def test_a_run_of_another_network_is_not_resumed(speakers: Path, songs: Path, tmp_path: Path) -> None:
    task = speech_task(speakers, tmp_path / "a")
    Run(task, Plan(minutes=1), tmp_path / "run").save()
    with pytest.raises(ValueError, match="got a run of tiny, expected stems"):
        Run(music_task(songs, tmp_path / "b"), Plan(minutes=1), tmp_path / "run").resume()
    task.config = replace(TINY, blocks=2)
    with pytest.raises(ValueError, match="of another network than tiny now has"):
        Run(task, Plan(minutes=1), tmp_path / "run").resume()


def test_a_signal_saves_and_leaves_and_the_second_is_what_it_was(speakers: Path, tmp_path: Path) -> None:
    task, said = speech_task(speakers, tmp_path / "cache"), []
    run = Run(task, Plan(minutes=60, batch=1), tmp_path / "run")
    kept = signal.getsignal(signal.SIGTERM)
    draw, drawn_so_far = task.mixer.batch, count()

    def interrupted(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        if next(drawn_so_far) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(rng, size)

    task.mixer.batch = interrupted
    train(run, tmp_path / "export", tell=said.append)
    assert run.step == 3
    assert "asked to stop" in said[-1]
    assert signal.getsignal(signal.SIGTERM) is kept
    again = Run(task, Plan(minutes=60, batch=1), tmp_path / "run")
    again.resume()
    assert again.step == 3
    assert (tmp_path / "export" / "model.safetensors").is_file()


def test_training_goes_on_from_exported_weights_with_a_fresh_optimizer(speakers: Path, tmp_path: Path) -> None:
    task = speech_task(speakers, tmp_path / "cache")
    run = Run(task, Plan(minutes=1, seed=1), tmp_path / "a")
    task.export(run.network, tmp_path / "export", {})
    other = Run(task, Plan(minutes=1, seed=2), tmp_path / "b")
    assert not same(other.network, run.network)
    other.begin_with(tmp_path / "export")
    for network in (other.network, other.average):
        assert same(network, run.network, 2e-3)  # halves on disk
    assert not other.optimizer.state


def test_training_goes_on_from_the_averaged_weights_of_another_run(speakers: Path, tmp_path: Path) -> None:
    task = speech_task(speakers, tmp_path / "cache")
    run = Run(task, Plan(minutes=1, seed=1), tmp_path / "a")
    with torch.no_grad():
        for weight in run.average.parameters():
            weight.add_(0.01)
    run.save()
    other = Run(task, Plan(minutes=1, seed=2), tmp_path / "b")
    other.begin_with(tmp_path / "a")
    for network in (other.network, other.average):
        assert same(network, run.average)
        assert not same(network, run.network)
    assert (other.step, other.elapsed) == (0, 0.0)
    assert not other.optimizer.state


def test_a_run_of_another_optimiser_is_not_gone_on_with(speakers: Path, tmp_path: Path) -> None:
    task = speech_task(speakers, tmp_path / "cache")
    Run(task, Plan(minutes=1), tmp_path / "run").save()
    other = Run(task, Plan(minutes=1, muon="."), tmp_path / "run")
    with pytest.raises(ValueError, match=r"last\.pt: its optimiser is another one .*; use --from"):
        other.resume()
    other.save()
    with pytest.raises(ValueError, match=r"last\.pt: its optimiser is another one .*; use --from"):
        Run(task, Plan(minutes=1), tmp_path / "run").resume()


def test_muon_moves_the_matrices_it_is_given_along_an_orthogonal_matrix() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Linear(6, 6))
    with pytest.raises(ValueError, match="got no matrix with 'layers' in its name"):
        optimiser(network, 0.1, 0.99, "layers")
    both = optimiser(network, 0.1, 0.99, "1.")
    before = [p.detach().clone() for p in network.parameters()]
    both.zero_grad()
    network(torch.randn(50, 6)).square().mean().backward()
    both.step()
    first, _, second, bias = [(old - new).detach() for old, new in zip(before, network.parameters(), strict=True)]
    singular = torch.linalg.svdvals(second)
    assert singular.min() > 0.5 * singular.max()  # five steps of Newton-Schulz go about so far
    assert torch.linalg.svdvals(first).min() < 0.2 * torch.linalg.svdvals(first).max()  # AdamW's do not
    assert bias.abs().min() > 0

    again = optimiser(network, 0.1, 0.99, "1.")
    again.load_state_dict(both.state_dict())
    assert str(again.state_dict()) == str(both.state_dict())
    with pytest.raises(
        ValueError, match=r"got the state of \['param_groups', 'state'\], expected that of \['adamw', 'muon'\]"
    ):
        again.load_state_dict(optimiser(network, 0.1, 0.99, None).state_dict())


def test_muon_moves_kernels_as_matrices_of_their_first_dimension_where_they_are() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 6), torch.nn.ConvTranspose1d(4, 2, 6))
    both = optimiser(network, 0.1, 0.99, "", kernels=True)
    kernel, back = network[0].weight, network[1].weight
    for _ in range(2):  # the second gradient is seen as the first was
        before = [kernel.detach().clone(), back.detach().clone()]
        both.zero_grad()
        assert kernel.grad is None
        for weight in network.parameters():
            weight.grad = torch.randn_like(weight)
        both.step()
        for old, new in zip(before, (kernel, back), strict=True):
            singular = torch.linalg.svdvals((old - new.detach()).flatten(1))
            assert singular.min() > 0.5 * singular.max()
    with pytest.raises(ValueError, match="got no matrix"):
        optimiser(network, 0.1, 0.99, "")


@pytest.mark.parametrize(
    "larger", [{"blocks": 3}, {"hidden": 20}, {"narrow": 7}, {"bottleneck": 17, "narrow": 5, "blocks": 2}]
)
def test_an_export_grows_into_the_same_function(speakers: Path, tmp_path: Path, larger: dict[str, int]) -> None:
    task = speech_task(speakers, tmp_path / "cache")
    task.export(task.network(), tmp_path / "small", {})
    task.config = replace(TINY, **larger)  # type: ignore[arg-type]
    large = task.network()
    task.restore(large, tmp_path / "small")
    pcm = torch.randn(1, 1, 3000)
    torch.testing.assert_close(large(pcm), network_from(tmp_path / "small" / "model.safetensors")(pcm))
    large(pcm).square().mean().backward()  # what is new has a say at once, or once what hears it has moved
    assert all(bool(block.time.out.weight.grad.any()) for block in large.blocks)
    task.config = replace(TINY, features=16, hidden=8)
    with pytest.raises(ValueError, match=r"other features 12 \(expected 16\), hidden 12 \(expected 8\)"):
        task.restore(task.network(), tmp_path / "small")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        task.restore(task.network(), tmp_path / "nothing")


def test_a_task_that_cannot_read_its_exports_says_so(speakers: Path, tmp_path: Path) -> None:
    task = speech_task(speakers, tmp_path / "cache")

    class Mute:
        """Everything of a task but `restore`."""

        name, network = "mute", task.network

    with pytest.raises(TypeError, match="mute: its exports cannot be read back"):
        Run(Mute(), Plan(minutes=1), tmp_path / "run").begin_with(tmp_path)


def test_the_fixed_order_is_that_of_pitch() -> None:
    t = np.arange(16000) / 16000
    low, high = (np.sign(np.sin(2 * np.pi * pitch * t)).astype(np.float32)[None] for pitch in (100, 220))
    silence = np.zeros_like(low)
    for voices in ([high, low, silence], [silence, high, low], [low, silence, high]):
        np.testing.assert_array_equal(by_pitch(np.stack(voices), 16000), [low, high, silence])
    np.testing.assert_array_equal(by_pitch(np.stack([low, silence]), 16000), [low, silence])
    np.testing.assert_array_equal(by_pitch(np.stack([high, silence]), 16000), [silence, high])
    three = torch.randn(2, 3, 1, 10)
    torch.testing.assert_close(in_order(three).sum(1), three.sum(1))


def test_the_fixed_order_counts_for_its_share_of_the_time_alone(speakers: Path, tmp_path: Path) -> None:
    task = speech_task(speakers, tmp_path, ordered=0.5)
    mixture, voices = (torch.from_numpy(part) for part in task.batch(np.random.default_rng(0), 4))
    swapped = in_order(voices).flip(1)
    early, late = (float(task.loss(lambda _: swapped, (mixture, voices), progress)) for progress in (0.4, 0.6))
    assert late < -15 < early


def test_the_command_trains_resumes_and_refuses(
    speakers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["speech", "--data", str(speakers), "--cache", str(tmp_path / "cache"), "--batch", "1", "--seconds", "0.5"]
    common += ["--device", "cpu", "--blocks", "1", "--checks", "1"]
    out = ["--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match=r"error: .*nothing to resume"):
        main([*common, *out, "--resume"])
    main([*common, *out, "--export", str(tmp_path / "export"), "--steps", "1"])
    with pytest.raises(SystemExit, match="there is a run already; add --resume"):
        main([*common, *out, "--steps", "2"])
    main([*common, *out, "--resume", "--steps", "2"])
    wider = ["--hidden", "96", "--narrow", "20"]
    main([*common, *wider, "--out", str(tmp_path / "more"), "--from", str(tmp_path / "export"), "--steps", "1"])
    told = capsys.readouterr().out
    assert [line.split()[1] for line in told.splitlines()] == ["1", "2", "1"]
    for words, reason in (
        (["--minutes", "0"], "got --minutes 0"),
        (["--from", str(tmp_path)], "no such checkpoint"),
        (["--data", str(tmp_path / "none"), "--cache", str(tmp_path / "none")], "got no speech"),
    ):
        with pytest.raises(SystemExit, match=f"error: .*{reason}"):
            main([*common, "--out", str(tmp_path / "new"), *words])


def test_without_tensorboard_there_is_the_log_alone(
    speakers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = Run(speech_task(speakers, tmp_path / "cache"), Plan(minutes=1), tmp_path / "run")
    log = Log(run.folder)
    log.note(run, {"loss": 1.0}, "training")
    log.close()
    assert [path.name for path in run.folder.iterdir()] == ["log.jsonl"]


def same(one: BandSplitRNN, other: BandSplitRNN, atol: float = 1e-6) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, atol=atol, rtol=0) for a, b in pairs)


def test_resuming_from_nothing_is_an_error(songs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        Run(music_task(songs, tmp_path), Plan(minutes=1), tmp_path).resume()
