"""The streaming Conv-TasNet against Asteroid's whole-file forward, and against files that mean harm."""

from __future__ import annotations

import copy
import math
import os
import pickle
import re
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints_convtasnet import make_checkpoint, tiny_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from models.convtasnet import ConvTasNetSeparator, _cumulative, load
from streaming.framing import Array

TOLERANCE = 1e-5  # of the largest sample, on stems whose peak is about one


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def asteroid() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pytest.importorskip("asteroid.models", reason="Asteroid is the oracle", exc_type=ImportError)
        except OSError as error:  # torchaudio's compiled library beside a CPU torch
            pytest.skip(f"Asteroid is the oracle and does not import: {error}")


def noise(samples: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def bursts(samples: int, rate: int, seed: int = 0) -> Array:
    """Speech-like: voiced and noisy syllables of 60 to 250 ms, 50 dB apart in level, with true silence between them."""
    rng, x, at = np.random.default_rng(seed), np.zeros(samples), 0
    while at < samples:
        n = int(rng.uniform(0.06, 0.25) * rate)
        t = np.arange(n) / rate
        voiced = np.sign(np.sin(2 * np.pi * rng.uniform(90, 250) * t * (1 + 0.1 * t)))
        syllable = np.hanning(n) * (voiced if rng.random() < 0.7 else rng.standard_normal(n))
        x[at : at + n] += (10 ** rng.uniform(-2.5, 0) * syllable)[: samples - at]
        at += n + int(rng.choice([0, 0.02, 0.2]) * rate)
    return x.astype(np.float32)


def stream(model: ConvTasNetSeparator, x: Array, hops: list[int]) -> Array:
    """All of `x`, `hops` at a time (the last repeats), zeros after the end until the delay is paid: `[S, T]`."""
    framing, state, told, at = model.spec.framing, model.start(), [], 0
    hop, pace = framing.hop, iter(hops)
    padded = np.pad(x, (0, -(len(x) + framing.delay) % hop + framing.delay))
    k = 1
    while at < len(padded):
        k = min(next(pace, k), (len(padded) - at) // hop)
        stems, (state,) = model.run(padded[None, None, at : at + k * hop], [state])
        assert stems.shape == (1, len(model.spec.sources), 1, k * hop)
        assert stems.dtype == np.float32
        told.append(stems[0, :, 0])
        at += k * hop
    return np.concatenate(told, 1)[:, framing.delay : framing.delay + len(x)]


def whole(asteroid: Any, path: Path, x: Array, silence: int = 0) -> Array:
    """Asteroid's own causal forward on the file and `silence` zeros: `[S, T + silence]`."""
    found = torch.load(path, weights_only=False)
    oracle = asteroid.ConvTasNet(**found["model_args"]).eval()
    oracle.load_state_dict(found["state_dict"])
    with torch.no_grad():
        return np.asarray(oracle(torch.from_numpy(np.pad(x, (0, silence)))[None, None])[0].numpy())


MODELS: dict[str, dict[str, Any]] = {
    "cLN": {},
    "cLN relu": {"mask_act": "relu"},
    "cLN softmax, 3 sources": {"mask_act": "softmax", "n_src": 3},
    "cLN no skip": {"skip_chan": 0},
    "cLN 16 kHz": {"kernel_size": 32, "stride": 16, "sample_rate": 16000, "n_src": 3},
    "cgLN": {"norm_type": "cgLN"},
    "cgLN relu, no skip, 3 sources": {"norm_type": "cgLN", "skip_chan": 0, "n_src": 3, "mask_act": "relu"},
    "cgLN 16 kHz": {"norm_type": "cgLN", "kernel_size": 32, "stride": 16, "sample_rate": 16000.0},
    "kernel 20, stride 8": {"norm_type": "cgLN", "kernel_size": 20, "stride": 8},
    "kernel 16, stride 4, encoder relu": {"kernel_size": 16, "stride": 4, "encoder_activation": "relu"},
    "kernel equals stride": {"kernel_size": 8, "stride": 8, "norm_type": "cgLN"},
    "stride by default, kernel of 4 taps": {"kernel_size": 18, "stride": None, "conv_kernel_size": 4},
}


@pytest.mark.parametrize("args", MODELS.values(), ids=MODELS.keys())
def test_streaming_equals_asteroids_whole_file_forward(asteroid: Any, tmp_path: Path, args: dict[str, Any]) -> None:
    path = make_checkpoint(tmp_path / "c.pth", **args)
    model = load(path)
    framing, kernel, rate = model.spec.framing, model.config.kernel_size, model.spec.rate
    length = 60 * framing.hop + 37
    for x in (noise(length), bursts(length, rate)):
        told = stream(model, x, [1, 1, 3, 2, 7])
        want = whole(asteroid, path, x, silence=framing.hop + kernel)[:, :length]
        assert 0.3 < np.abs(want).max() < 20
        np.testing.assert_allclose(told, want, rtol=0, atol=TOLERANCE)
        # Without the silence, Asteroid leaves out the frames that reach past the end: all before them is the same.
        frames = (length - kernel) // model.config.stride + 1
        known = frames * model.config.stride
        np.testing.assert_allclose(told[:, :known], whole(asteroid, path, x)[:, :known], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("version", ["0.6.1", "0.7.0"])
def test_cgln_is_the_papers_from_asteroid_0_6_1_on(
    asteroid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    def running(self: Any, x: torch.Tensor) -> torch.Tensor:  # one prefix at a time: slow and plain
        prefixes = [x[:, :, : t + 1].double() for t in range(x.shape[2])]
        mean = torch.stack([p.mean((1, 2)) for p in prefixes], -1)[:, None]
        variance = torch.stack([p.var((1, 2), unbiased=False) for p in prefixes], -1)[:, None]
        return self.apply_gain_and_bias(((x - mean) / (variance + 1e-8).sqrt()).float())

    from asteroid.masknn import norms

    infos = {"software_versions": {"asteroid_version": version}}
    path = make_checkpoint(tmp_path / "c.pth", infos=infos, norm_type="cgLN")
    x = bursts(3000, 8000)
    old = whole(asteroid, path, x)
    monkeypatch.setattr(norms.CumLN, "forward", running)
    want, told = whole(asteroid, path, x, silence=8), stream(load(path), x, [1])
    np.testing.assert_allclose(told, want[:, :3000], rtol=0, atol=TOLERANCE)
    assert np.abs(old - want[:, :3000]).max() > 0.1  # the two formulas are not close


def test_the_delay_is_exact(tmp_path: Path) -> None:
    """The last sample heard reaches the last stride told, and no earlier one: a smaller delay could not be kept."""
    for kernel, stride, delay in ((16, 8, 8), (32, 16, 16), (24, 8, 16), (20, 8, 16), (8, 8, 0), (9, 8, 8)):
        model = load(make_checkpoint(tmp_path / "c.pth", kernel_size=kernel, stride=stride), hop=80 * stride)
        assert model.spec.framing.delay == delay
        x = noise(80 * stride)
        heard = (len(x) - kernel) // stride * stride + kernel - 1  # the last sample of the last whole frame
        other = x.copy()
        other[heard] += 1
        one, two = (model.run(v[None, None], [model.start()])[0][0, :, 0] for v in (x, other))
        assert np.array_equal(one[:, :-stride], two[:, :-stride])
        assert not np.array_equal(one[:, -stride:], two[:, -stride:])


@pytest.fixture(scope="module", params=["cLN", "cgLN"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ConvTasNetSeparator:
    return load(make_checkpoint(tmp_path_factory.mktemp("m") / "tiny.pth", norm_type=request.param), hop=24)


def near(a: Array, b: Array) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


@settings(max_examples=40, deadline=None)
@given(hops=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 9))
def test_any_grouping_of_hops_is_the_same(tiny: ConvTasNetSeparator, hops: list[int], seed: int) -> None:
    x = bursts(30 * 24 + 5, 8000, seed)
    near(stream(tiny, x, hops), stream(tiny, x, [31]))


@settings(max_examples=40, deadline=None)
@given(ages=st.lists(st.integers(0, 12), min_size=1, max_size=5), width=st.integers(1, 5))
def test_rows_of_any_age_run_together_as_they_run_alone(tiny: ConvTasNetSeparator, ages: list[int], width: int) -> None:
    heard = [noise(24 * (age + 2 * width), seed) for seed, age in enumerate(ages)]
    states = [tiny.start() for _ in ages]
    for b, age in enumerate(ages):
        for k in range(age):
            _, (states[b],) = tiny.run(heard[b][None, None, 24 * k : 24 * (k + 1)], [states[b]])
    told = []
    for turn in range(2):
        parts = [x[24 * (age + turn * width) :][: 24 * width] for x, age in zip(heard, ages, strict=True)]
        stems, states = tiny.run(np.stack(parts)[:, None], states)
        told.append(stems)
    for b, x in enumerate(heard):
        alone = tiny.run(x[None, None], [tiny.start()])[0][0]
        near(np.concatenate([stems[b] for stems in told], -1), alone[..., 24 * ages[b] :])


def test_states_and_input_are_never_written_to(tiny: ConvTasNetSeparator) -> None:
    pcm = noise(2 * 48).reshape(2, 1, 48)
    pcm.flags.writeable = False
    _, states = tiny.run(pcm, [tiny.start(), tiny.start()])
    for old in ([tiny.start(), tiny.start()], states):
        before = copy.deepcopy(old)
        first, after = tiny.run(pcm, old)
        kept = copy.deepcopy(after)
        assert first.flags.c_contiguous
        assert first.flags.writeable
        again, _ = tiny.run(pcm, old)
        assert np.array_equal(first, again)  # so a repeated call does not matter
        first[:] = np.nan  # the caller owns it
        tiny.run(pcm, after)
        for a, b in zip([*before, *kept], [*old, *after], strict=True):
            assert same(a, b)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) if isinstance(a, int) else same(tuple(vars(a).values()), tuple(vars(b).values()))


def test_a_nan_stays_in_its_row(tiny: ConvTasNetSeparator) -> None:
    clean = noise(3 * 24 * 40).reshape(3, 1, -1)
    dirty = clean.copy()
    dirty[0, 0, 30] = np.nan  # in the first hops, when frames before the start are masked
    dirty[2, 0, 600:] = np.inf
    told: list[list[Array]] = [[], []]
    for pcm, out in zip((clean, dirty), told, strict=True):
        states = [tiny.start() for _ in range(3)]
        for k in range(40):
            stems, states = tiny.run(pcm[..., 24 * k : 24 * (k + 1)], states)
            out.append(stems)
    want, got = (np.concatenate(t, -1) for t in told)
    assert np.isnan(got[0]).any()
    assert np.array_equal(got[1], want[1])
    assert np.array_equal(got[2, ..., :580], want[2, ..., :580])


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 1e-3, 1e-20, 1e-30, 1e-40, 1e-45])
def test_silence_dc_full_scale_and_denormals_give_finite_output(tiny: ConvTasNetSeparator, level: float) -> None:
    flat, states = np.full((1, 1, 240), level, np.float32), [tiny.start()]
    flat[..., 120:] *= -1
    for pcm in (flat, flat, noise(240).reshape(1, 1, -1), 0 * flat, flat):
        stems, states = tiny.run(pcm, states)
        assert np.isfinite(stems).all()


@pytest.mark.parametrize("true", [True, False])
def test_running_sums_do_not_drift_in_an_hour(true: bool) -> None:
    """3.6 million frames (one hour at stride 8, 8 kHz) against exact sums; running sums in float32 would be off."""
    frames, channels = 3_600_000, 4
    x = (3 + np.random.default_rng(0).standard_normal((frames, channels))).astype(np.float32)
    before = torch.zeros(1, 2, dtype=torch.float64)
    for a in range(0, frames, 36_000):
        part = torch.from_numpy(x[None, a : a + 36_000])
        seen = torch.arange(a + 1, a + part.shape[1] + 1, dtype=torch.float64)[None]
        y, before = _cumulative(part, before, seen, None, true)
    wide = x.astype(np.float64).ravel()
    for back in (0, 1, 35_999):
        n = (frames - back) * channels
        mean, power = wide[:n].sum() / n, np.square(wide[:n]).sum()  # numpy adds in pairs: 1e-15 off
        scale = (power / n if true else power) - mean**2
        want = (wide[n - channels : n] - mean) / math.sqrt(scale + 1e-8)
        np.testing.assert_allclose(y[0, -1 - back].numpy(), want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


def test_a_stream_an_hour_old_still_groups_and_stays_finite(tmp_path: Path) -> None:
    for version in ("0.5.2", "0.7.0"):
        infos = {"software_versions": {"asteroid_version": version}}
        model = load(make_checkpoint(tmp_path / "c.pth", infos=infos, norm_type="cgLN"), hop=24)
        x = bursts(24 * 400, 8000)
        _, (state,) = model.run(x[None, None], [model.start()])
        age = 3_600_000 / state.frames
        old = replace(state, frames=3_600_000, sums=state.sums * age)
        at_once, _ = model.run(x[None, None], [old])
        told, states = [], [old]
        for k in range(400):
            stems, states = model.run(x[None, None, 24 * k : 24 * (k + 1)], states)
            told.append(stems)
        assert np.isfinite(at_once).all()
        near(np.concatenate(told, -1), at_once)


def test_the_state_does_not_grow(tiny: ConvTasNetSeparator) -> None:
    """At most the field and one piece, whatever the grouping; and no row holds the memory of its neighbours."""
    states, x = [tiny.start(), tiny.start()], noise(24 * 400).reshape(2, 1, -1)
    for k in (1, 1, 50, 1, 7, *[1] * 40):
        _, states = tiny.run(x[..., : 24 * k], states)
        for i, past in enumerate(states[0].pasts):
            keep = 2 * 2 ** (i % tiny.config.n_blocks)
            assert keep <= sum(len(piece) for piece in past) < 2 * keep
            assert all(piece.untyped_storage().nbytes() <= 4 * 20 * keep for piece in past)
        for value in (states[0].wave, states[0].sums, states[0].tail):
            assert value.untyped_storage().nbytes() == value.nbytes


def test_the_spec_says_what_the_file_says(tmp_path: Path) -> None:
    spec = load(tiny_checkpoint(tmp_path / "tiny.pth")).spec
    assert (spec.name, spec.rate, spec.channels, spec.sources) == ("tiny", 8000, 1, ("speaker_1", "speaker_2"))
    assert (spec.framing.window, spec.framing.hop, spec.framing.latency) == (128, 128, 136)
    assert spec.interchangeable
    assert spec.licence == "unknown"
    path = make_checkpoint(tmp_path / "c.pth", infos={"license": "CC-BY-SA-4.0"}, sample_rate=16000, n_src=3)
    spec = load(path, name="conference", hop=80).spec
    assert (spec.name, spec.licence, spec.framing.hop) == ("conference", "CC-BY-SA-4.0", 80)
    assert load(path).spec.framing.hop == 256
    with pytest.raises(ValueError, match="hop 100 is not a multiple of the encoder's stride 8"):
        load(path, hop=100)


def test_a_window_that_does_not_fit_is_refused(tiny: ConvTasNetSeparator) -> None:
    for shape, states in (((1, 1, 25), 1), ((1, 2, 24), 1), ((2, 1, 24), 1), ((1, 1, 0), 1), ((0, 1, 24), 0)):
        with pytest.raises(ValueError, match=re.escape(f"pcm {shape} with {states} states")):
            tiny.run(np.zeros(shape, np.float32), [tiny.start()] * states)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "not causal": ({"causal": False, "norm_type": "gLN"}, "causal=False.*Use a checkpoint trained with causal=True"),
    "global norm": ({"norm_type": "gLN"}, "norm_type 'gLN' needs the whole file: only 'cLN' and 'cgLN'"),
    "no rate": ({"sample_rate": None}, r"lacks \['sample_rate'\]"),
    "half a rate": ({"sample_rate": 8000.5}, "sample_rate.*8000.5"),
    "no filters": ({"n_filters": "24"}, "whole and positive.*n_filters"),
    "filterbank": ({"fb_name": "stft"}, "'fb_name': 'stft'"),
    "unknown argument": ({"who_is_pinv": "decoder"}, "who_is_pinv"),
    "masks of other width": ({"out_chan": 1}, "'out_chan': 1"),
    "activation": ({"mask_act": "prelu"}, "mask_act 'prelu'"),
    "holes": ({"stride": 20}, "stride 20 is above kernel_size 16"),
}


def edit(path: Path, **changes: Any) -> Path:
    torch.save({**torch.load(path, weights_only=False), **changes}, path)
    return path


@pytest.mark.parametrize(("args", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_streamed_is_refused_by_name(tmp_path: Path, args: dict[str, Any], message: str) -> None:
    path = tiny_checkpoint(tmp_path / "c.pth")
    edit(path, model_args={**torch.load(path, weights_only=False)["model_args"], **args})
    with pytest.raises(ValueError, match=message):
        load(path)


def test_keys_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "c.pth")
    weights = dict(torch.load(path, weights_only=False)["state_dict"])
    weights["masker.TCN.0.shared_block.3.weight"] = weights.pop("masker.TCN.0.shared_block.3.0.weight")
    weights["masker.mask_net.1.bias"] = torch.zeros(7)
    weights["masker.bottleneck.0.beta"][3] = torch.nan
    weights["masker.bottleneck.0.gamma"] = torch.ones(24, dtype=torch.int64)
    with pytest.raises(ValueError, match="state_dict does not fit model_args") as refused:
        load(edit(path, state_dict=weights))
    for part in (
        "missing masker.TCN.0.shared_block.3.0.weight",
        "unexpected masker.TCN.0.shared_block.3.weight",
        "masker.mask_net.1.bias is (7,), model_args say (48,)",
        "masker.bottleneck.0.beta has values that are not finite floats",
        "masker.bottleneck.0.gamma has values that are not finite floats",
    ):
        assert part in str(refused.value)
    with pytest.raises(ValueError, match="holds a 'DPRNNTasNet', this loads 'ConvTasNet'"):
        load(edit(path, model_name="DPRNNTasNet"))
    with pytest.raises(ValueError, match="not an Asteroid checkpoint"):
        load(edit(path, state_dict=[1]))


def test_cgln_of_an_unknown_version_is_taken_for_the_installed_one_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = load(make_checkpoint(tmp_path / "c.pth", infos={"license": "MIT"}, norm_type="cgLN"))
    assert "taken for 0.5.2" in caplog.text
    infos = {"license": "MIT", "software_versions": {"asteroid_version": "0.5.2"}}
    known = load(make_checkpoint(tmp_path / "d.pth", infos=infos, norm_type="cgLN"))
    noise = np.random.default_rng(0).standard_normal((1, 1, unknown.spec.framing.window)).astype(np.float32)
    np.testing.assert_array_equal(unknown.run(noise, [unknown.start()])[0], known.run(noise, [known.start()])[0])


class Harm:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "pickle 2", "infos", "zip in eval"])
def test_a_malicious_file_is_refused_and_runs_nothing(tmp_path: Path, form: str) -> None:
    path, marker = tiny_checkpoint(tmp_path / "c.pth"), tmp_path / "harm"
    harm: Any = Harm(marker)
    if form == "zip in eval":
        harm = type("Eval", (), {"__reduce__": lambda self: (eval, (f"__import__('os').mkdir({str(marker)!r})",))})()
        Eval = type(harm)
        globals()["Eval"], Eval.__module__ = Eval, __name__
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(harm, protocol=2 if form == "pickle 2" else 4))
    elif form == "infos":
        edit(path, infos={"license": harm})
    else:
        torch.save({"model_name": "ConvTasNet", "x": harm}, path, _use_new_zipfile_serialization=form != "legacy")
    assert b"mkdir" in path.read_bytes()
    with pytest.raises(ValueError, match="refused, nothing of it was run") as refused:
        load(path)
    assert not marker.exists()
    assert "weights_only" not in str(refused.value)  # torch's own text advises to run the file


def test_a_damaged_file_is_refused_and_a_missing_one_is_missing(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "c.pth")
    for content in (b"", b"hello", path.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="refused"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pth")


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_numpy_scalars_in_old_checkpoints_are_read(tmp_path: Path, module: str) -> None:
    args = {"sample_rate": np.float64(8000.0), "n_src": np.int64(2)}
    path = make_checkpoint(tmp_path / "new.pth", **args)
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\nscalar\n" in content
                content = content.replace(b"cnumpy._core.multiarray\n", f"c{module}\n".encode())
            target.writestr(name, content)
    assert load(old).spec.rate == 8000
