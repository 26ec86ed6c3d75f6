"""ToTaToNet against pyannote's own, and what is refused of a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints_pyannote import STAND_IN, TINY, imported, make_totatonet, save, tiny_totatonet

from models import pyannote_file, registry, totatonet
from streaming.framing import Array

TOLERANCE = 1e-5
WAVLM = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


@pytest.fixture(scope="module")
def pyannote() -> Any:
    """pyannote's module of ToTaToNet, which has its class's name."""
    return imported("asteroid.masknn", "pyannote.audio.models.separation.ToTaToNet")[1]


def theirs(pyannote: Any, folder: Path, pcm: Array, wavlm: bool = False) -> tuple[Array, Array]:
    """pyannote's sources `[B, S, 1, W]` and activity `[B, F, S]`."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = folder / "segmentation" / "pytorch_model.bin"
        found = pyannote.ToTaToNet.load_from_checkpoint(
            path, map_location="cpu", weights_only=False, use_wavlm=wavlm, strict=True
        )
        spoken, stems = found.eval()(torch.from_numpy(pcm))
    return stems.permute(0, 2, 1)[:, :, None].numpy(), spoken.numpy()


def sound(samples: int = 8000, rows: int = 2) -> Array:
    return (0.3 * np.random.default_rng(0).standard_normal((rows, 1, samples))).astype(np.float32)


@pytest.mark.parametrize(
    "dprnn",
    [
        {},
        {"chunk_size": 25, "mask_act": "sigmoid", "num_layers": 2},
        {"bidirectional": False, "hop_size": 7, "mask_act": "tanh"},
    ],
    ids=["plain", "odd chunk, sigmoid, deeper", "forward only, own hop"],
)
def test_windows_equal_pyannotes(pyannote: Any, tmp_path: Path, dprnn: dict[str, Any]) -> None:
    folder = make_totatonet(tmp_path / "m", dprnn=TINY | dprnn)
    model = totatonet.load(folder)
    pcm = sound()
    want, want_spoken = theirs(pyannote, folder, pcm)
    assert np.abs(want).max() > 0.1
    assert np.ptp(want_spoken) > 0.02
    stems, spoken = model.both(pcm)
    np.testing.assert_allclose(stems, want, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(spoken, want_spoken, rtol=0, atol=TOLERANCE)
    assert np.array_equal(model.run(pcm, [None, None])[0], stems)
    assert np.array_equal(model.activity(pcm), spoken)


def test_the_published_sizes_equal_pyannotes(pyannote: Any, tmp_path: Path) -> None:
    folder = make_totatonet(tmp_path / "m", duration=5.0, dprnn={})
    model = totatonet.load(folder)
    spec = model.spec
    assert (spec.windows, spec.rate, len(spec.sources), model.frame) == ((80_000,), 16000, 3, 128)
    assert round(sum(value.numel() for value in model.network.parameters()) / 1e6, 1) == 3.7
    pcm = sound(8000, rows=1)
    want, want_spoken = theirs(pyannote, folder, pcm)
    stems, spoken = model.both(pcm)
    np.testing.assert_allclose(stems, want, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(spoken, want_spoken, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("old", [False, True], ids=["", "names of before torch 2.1"])
def test_with_wavlm_equals_pyannotes(pyannote: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """pyannote would fetch WavLM-large first, only for its sizes: here it is handed the small one."""
    transformers = pytest.importorskip("transformers")
    folder = make_totatonet(tmp_path / "m", wavlm=WAVLM)

    class Small:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            assert name == totatonet.WAVLM
            return transformers.WavLMModel(transformers.WavLMConfig(**WAVLM))

    monkeypatch.setattr(pyannote, "AutoModel", Small)
    pcm = sound()
    want, want_spoken = theirs(pyannote, folder, pcm, wavlm=True)
    if old:
        path = folder / "segmentation" / "pytorch_model.bin"
        found = pyannote_file.checkpoint(path)
        state = {_old(key): value for key, value in found["state_dict"].items()}
        assert any(key.endswith("weight_g") for key in state)
        save(found | {"state_dict": state}, path)
    stems, spoken = totatonet.load(folder).both(pcm)
    np.testing.assert_allclose(stems, want, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(spoken, want_spoken, rtol=0, atol=TOLERANCE)
    without = totatonet.load(make_totatonet(tmp_path / "without")).both(pcm)[0]
    assert np.abs(without - stems).max() > 0.01  # it is not left out


def _old(key: str) -> str:
    key = key.replace("pos_conv_embed.conv.parametrizations.weight.original0", "pos_conv_embed.conv.weight_g")
    return key.replace("pos_conv_embed.conv.parametrizations.weight.original1", "pos_conv_embed.conv.weight_v")


def test_wavlms_sizes_must_be_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    pytest.importorskip("transformers")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = make_totatonet(tmp_path / "m", wavlm=WAVLM)
    config = folder / "wavlm" / "config.json"
    snapshot = tmp_path / "hub" / "models--microsoft--wavlm-large" / "snapshots" / "0123abcd"
    text = config.read_text()
    config.unlink()
    with pytest.raises(FileNotFoundError, match="hf download microsoft/wavlm-large"):
        totatonet.load(folder)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(text)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123abcd")
    assert len(totatonet.load(folder).spec.sources) == 3


def test_activity_is_of_its_own_output_and_place(tmp_path: Path) -> None:
    """Frame f hears the encoder's frames 8f to 8f + 7; a masker blind to all (masks of one) makes that plain."""
    model = totatonet.load(tiny_totatonet(tmp_path / "m"))

    class Blind(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x), 3, x.shape[1], x.shape[2])

    model.network.masker = Blind()  # type: ignore[assignment]
    pcm = sound(rows=1)
    other = pcm.copy()
    other[..., 128 * 20 + 10] += 1
    changed = np.flatnonzero(np.any(model.activity(pcm) != model.activity(other), axis=(0, 2)))
    assert changed.tolist() == [19, 20]  # the last encoder frame of 19 reaches 16 samples into 20
    assert model.activity(pcm).shape == (1, 62, 3)


def test_pyannote_and_asteroid_are_not_needed(tmp_path: Path) -> None:
    folder = tiny_totatonet(tmp_path / "m")
    code = (
        "import sys; sys.modules |= dict.fromkeys(['pyannote', 'pyannote.audio', 'asteroid', 'lightning']); "
        "import numpy as np; from models import totatonet; "
        f"print(totatonet.load({str(folder)!r}).activity(np.ones((1, 1, 8000), np.float32)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 62, 3)"


def test_a_model_is_found_by_its_pipeline_its_folder_and_its_file(tmp_path: Path) -> None:
    folder = tiny_totatonet(tmp_path / "mine")
    (folder / "segmentation" / "README.md").write_text("---\nlicense: mit\n---\n")
    by_name = registry.from_path("mine", folder)
    assert (by_name.sources, by_name.licence) == (("speaker_1", "speaker_2", "speaker_3"), "mit")
    assert by_name.interchangeable
    pcm = sound()
    want = by_name.load(None).run(pcm, [None, None])[0]
    for source in (folder / "segmentation", folder / "segmentation" / "pytorch_model.bin"):
        assert np.array_equal(totatonet.load(source).run(pcm, [None, None])[0], want)


def test_windows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = totatonet.load(tiny_totatonet(tmp_path / "m"))
    for samples in (143, 8001):
        with pytest.raises(ValueError, match=f"{samples} samples, .* takes 144 to 8000"):
            model.run(sound(samples), [None, None])
    assert model.activity(sound(144)).shape == (2, 1, 3)
    with pytest.raises(ValueError, match="3 states"):
        model.run(sound(), [None] * 3)
    with pytest.raises(ValueError, match=re.escape("(2, 2, 800)")):
        model.run(np.zeros((2, 2, 800), np.float32), [None, None])


def test_what_cannot_be_built_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_totatonet(tmp_path / "m")
    path = folder / "segmentation" / "pytorch_model.bin"
    found = pyannote_file.checkpoint(path)
    told, hyper, state = found["pyannote.audio"], found["hyper_parameters"], found["state_dict"]
    other = pyannote_file.Specifications()
    other.problem, other.duration = pyannote_file.Problem.MONO_LABEL_CLASSIFICATION, 5.0
    key = "masker.net.0.intra_linear.weight"
    cases = {
        "expected pyannote.audio.models.separation": {"pyannote.audio": told | {"architecture": {"module": "os"}}},
        "expected one probability a speaker": {"pyannote.audio": told | {"specifications": (other,)}},
        "'rnn_type': 'GRU'": {"hyper_parameters": hyper | {"dprnn": {"rnn_type": "GRU"}}},
        "'fb_name': 'stft'": {"hyper_parameters": hyper | {"encoder_decoder": {"fb_name": "stft"}}},
        "'new': 1": {"hyper_parameters": hyper | {"linear": {"new": 1}}},
        "got sizes": {"hyper_parameters": hyper | {"dprnn": TINY | {"bn_chan": 10**9}}},
        "Missing key": {"state_dict": {name: state[name] for name in state if name != key}},
        "Unexpected key": {"state_dict": state | {"more": torch.ones(1)}},
        "size mismatch": {"state_dict": state | {key: torch.ones(2, 2)}},
        f"not finite numbers in {key}": {"state_dict": state | {key: state[key] * torch.nan}},
    }
    for why, change in cases.items():
        save(found | change, path)
        with pytest.raises(ValueError, match=re.escape(why)):
            totatonet.load(folder)


def test_a_checkpoint_that_means_harm_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = tiny_totatonet(tmp_path / "m")
    path = folder / "segmentation" / "pytorch_model.bin"
    found, made = pyannote_file.checkpoint(path), tmp_path / "made"

    class Harm:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {made}",)

    save(found | {"more": Harm()}, path)
    with pytest.raises(ValueError, match=r"nothing of it was run.*asks for (posix|os)\.system"):
        totatonet.load(folder)
    assert not made.exists()
    for text, why in (
        ("pipeline: {name: a.SpeakerDiarization, params: {}}", "expected SpeechSeparation"),
        ("pipeline: {name: a.SpeechSeparation, params: {segmentation: /etc/passwd}}", "expected .model/"),
        ("pipeline: {name: a.SpeechSeparation, params: {segmentation: $model/../x}}", "expected a folder inside"),
        ("pipeline: !!python/object/apply:os.getpid []", "not YAML"),
        ("pipeline: []", "expected pipeline: name and params"),
    ):
        (folder / "config.yaml").write_text(text)
        with pytest.raises(ValueError, match=why):
            totatonet.load(folder)


def test_the_stand_ins_have_pyannotes_names_and_numbers(pyannote: Any) -> None:
    from pyannote.audio.core import task

    for kind in STAND_IN:
        assert hasattr(task, kind.__name__)
    for ours, own in ((pyannote_file.Problem, task.Problem), (pyannote_file.Resolution, task.Resolution)):
        assert {one.name: one.value for one in ours} == {one.name: one.value for one in own}
