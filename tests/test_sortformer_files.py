"""Checkpoints of the streaming Sortformer: each format gives the same network, and what does not fit is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sortformer_oracle as oracle
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.diarizer import Profile
from models.sortformer import SortformerDiarizer, load
from streaming.framing import Array

PUBLISHED = {"fifo_length": 264, "speaker_cache_update_period": 222, "speaker_cache_length": 264}
PCM = oracle.voices(6)


@cache
def model() -> Any:
    return oracle.make_model(**PUBLISHED)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return oracle.save(model(), tmp_path / "model")


def said(diarizer: SortformerDiarizer) -> Array:
    (probs,), (state,) = diarizer.run([PCM], [diarizer.start("0.32s")])
    return np.concatenate((probs, diarizer.finish(state)))


def theirs() -> Array:
    told: Array = oracle.stream(model(), PCM, Profile(3, 1, 264, 222, 264))[0]
    return told


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reweigh(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def nemo_state() -> dict[str, Tensor]:
    """The weights as NeMo names them, with the parts that only training uses. Written anew, not from our table."""
    state, made = model().state_dict(), {}
    for n in range(2):
        there, here = f"model.audio_tower.layers.{n}", f"encoder.layers.{n}"
        qkv = [state[f"{there}.self_attn.{one}_proj.weight"] for one in ("q", "k", "v")]
        made[f"{here}.attn.w_qkv.weight"] = torch.cat(qkv)
        for kind in ("weight", "bias"):
            made[f"{here}.attn.out_proj.{kind}"] = state[f"{there}.self_attn.o_proj.{kind}"]
            made[f"{here}.norm1.{kind}"] = state[f"{there}.layer_norm1.{kind}"]
            made[f"{here}.norm2.{kind}"] = state[f"{there}.layer_norm2.{kind}"]
            made[f"{here}.ffn.net.0.{kind}"] = state[f"{there}.mlp.fc1.{kind}"]
            made[f"{here}.ffn.net.3.{kind}"] = state[f"{there}.mlp.fc2.{kind}"]
    made["encoder.pre_encode.proj.weight"] = state["model.audio_tower.embedder.projection.weight"]
    made["sortformer_modules.learnable_sil_emb"] = state["silence_embeds"]
    for kind in ("weight", "bias"):
        made[f"encoder.embed_norm.{kind}"] = state[f"model.audio_tower.input_layer_norm.{kind}"]
        made[f"encoder.final_norm.{kind}"] = state[f"model.audio_tower.layer_norm.{kind}"]
        made[f"sortformer_modules.encoder_proj.{kind}"] = state[f"model.proj.{kind}"]
        made[f"sortformer_modules.subpixel_upsample.{kind}"] = state[f"model.upsampler.conv.{kind}"]
        made[f"sortformer_modules.first_hidden_to_hidden.{kind}"] = state[f"classifier.dense.{kind}"]
        made[f"sortformer_modules.single_hidden_to_spks.{kind}"] = state[f"classifier.out_proj.{kind}"]
    made["sortformer_modules.hidden_to_spks.weight"] = torch.zeros(4, 32)
    made["sortformer_modules.activity_head.0.weight"] = torch.zeros(3, 16)
    made["preprocessor.featurizer.window"] = torch.hann_window(400, periodic=False)
    return made


NEMO_CONFIG: dict[str, Any] = {
    "sample_rate": 16000,
    "high_resolution": True,
    "streaming_mode": True,
    "preprocessor": {
        "normalize": "NA",
        "window_size": 0.025,
        "sample_rate": 16000,
        "window_stride": 0.01,
        "window": "hann",
        "features": 128,
        "n_fft": 512,
        "dither": 1e-5,
    },
    "sortformer_modules": {
        "num_spks": 4,
        "tf_d_model": 16,
        "fc_d_model": 32,
        "spkcache_len": 188,
        "fifo_len": 0,
        "spkcache_sil_frames_per_spk": 1,
        "pred_score_threshold": 0.25,
        "scores_boost_latest": 0.05,
        "strong_boost_rate": 0.75,
        "weak_boost_rate": 1.5,
        "min_pos_scores_rate": 0.5,
        "use_learnable_sil_emb": True,
    },
    "encoder": {
        "_target_": "nemo.collections.asr.modules.TransformerEncoder",
        "feat_in": 128,
        "n_layers": 2,
        "d_model": 32,
        "n_heads": 2,
        "subsampling": "feature_stacking",
        "subsampling_factor": 8,
        "ff_expansion": 2.0,
        "self_attention_model": "rope",
        "pos_emb_max_len": 5000,
        "xscaling": False,
        "qkv_bias": False,
        "qk_norm": False,
        "pre_block_norm": True,
    },
}


def nemo(
    path: Path,
    state: object = None,
    config: dict[str, Any] | str | None = None,
    mode: str = "w",
    without: str = "",
    under: str = "./",
) -> Path:
    weights = io.BytesIO()
    torch.save(nemo_state() if state is None else state, weights)
    text = config if isinstance(config, str) else yaml.safe_dump(config or NEMO_CONFIG)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in (("model_config.yaml", text.encode()), ("model_weights.ckpt", weights.getvalue())):
            if name != without:
                info = tarfile.TarInfo(under + name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    half = oracle.make_model(**PUBLISHED).half()
    diarizer = load(oracle.save(half, tmp_path))
    assert all(weight.dtype == torch.float32 for weight in diarizer.network.state_dict().values())
    rounded = type(half).from_pretrained(tmp_path, dtype=torch.float32).eval()
    told, _ = oracle.stream(rounded, PCM, diarizer.spec.profiles["0.32s"])
    assert np.abs(said(diarizer) - told).max() < 1e-4
    assert np.abs(told - theirs()).max() > 1e-4  # rounding the weights is heard: they were rounded


@pytest.mark.parametrize(("mode", "under"), [("w", "./"), ("w:gz", ""), ("w", "../../")])
def test_nemo_is_the_same_network(tmp_path: Path, mode: str, under: str) -> None:
    diarizer = load(nemo(tmp_path / "n3.nemo", mode=mode, under=under))
    assert np.abs(said(diarizer) - theirs()).max() < 1e-4
    assert [file.name for file in tmp_path.iterdir()] == ["n3.nemo"]


def test_spec_tells_what_it_is(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("recipe: none\nlicence: CC0-1.0\n")
    edit(folder / "processor_config.json", lambda c: c["streaming_modes"].update(mine=[5, 2]))
    spec = load(folder, "who").spec
    assert (spec.name, spec.speakers, spec.rate, spec.frame_s, spec.licence) == ("who", 4, 16000, 0.01, "CC0-1.0")
    assert spec.profiles["1.04s"] == spec.profiles["low_latency"] == Profile(9, 4, 264, 222, 264)
    assert spec.profiles["30.4s"] == Profile(340, 40, 40, 300, 264)
    assert spec.profiles["mine"] == Profile(5, 2, 264, 222, 264)
    assert {"10s", "0.64s", "0.32s"} <= spec.profiles.keys()
    assert spec.size == 4 * sum(weight.numel() for weight in model().parameters())
    other = load(nemo(tmp_path / "n3.nemo")).spec
    assert other.version == spec.version != ""


def test_the_checkpoints_own_policy_and_front_end_are_used(tmp_path: Path) -> None:
    odd = oracle.make_model(
        speaker_cache_silence_frames_per_speaker=2,
        prediction_score_threshold=0.1,
        latest_frames_score_boost=0.3,
        strong_boost_rate=0.5,
        weak_boost_rate=1.0,
        min_positive_scores_rate=0.2,
    )
    folder, pcm, profile = oracle.save(odd, tmp_path), oracle.voices(16), Profile(3, 1, 8, 6, 24)
    with oracle.settled():
        told, kept = oracle.stream(odd, pcm, profile)
        plain = copy_of(odd)
        plain.config.streaming_config = model().config.streaming_config
        other, _ = oracle.stream(plain, pcm, profile)
    assert kept.is_compressed
    assert np.abs(told - other).max() > 0.01
    diarizer = load(folder)
    (probs,), (state,) = diarizer.run([pcm], [diarizer.start(profile)])
    assert np.abs(np.concatenate((probs, diarizer.finish(state))) - told).max() < 1e-4
    edit(folder / "processor_config.json", lambda c: c["feature_extractor"].update(preemphasis=0.5))
    assert np.abs(said(load(folder)) - said(diarizer)).max() > 0.01


def copy_of(network: Any) -> Any:
    import copy

    return copy.deepcopy(network)


def test_a_name_of_the_hub_is_read_from_its_cache(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(FileNotFoundError, match="hf download somebody/Sortformer"):
        load("somebody/Sortformer")
    home, commit = tmp_path / "hub" / "models--somebody--Sortformer", "a" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    shutil.copytree(folder, home / "snapshots" / commit)
    assert np.abs(said(load("somebody/Sortformer")) - theirs()).max() < 1e-4


@pytest.mark.parametrize("source", ["nothing/here/at/all", "nothing"])
def test_nothing_there(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        load(source)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_must_be_whole(folder: Path, name: str) -> None:
    os.remove(folder / name)
    with pytest.raises(FileNotFoundError, match=name):
        load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(model_type="bert"), "model_type 'bert'"),
        (lambda c: c.pop("audio_config"), "KeyError.*audio_config"),
        (lambda c: c["audio_config"].update(hidden_act="relu"), "hidden_act.*relu.*expected.*gelu"),
        (lambda c: c["audio_config"].update(num_key_value_heads=1), "num_key_value_heads"),
        (lambda c: c["audio_config"].update(subsampling_factor=4), "subsampling_factor"),
        (lambda c: c["audio_config"]["rope_parameters"].update(rope_type="yarn"), "yarn"),
        (lambda c: c["audio_config"]["rope_parameters"].update(partial_rotary_factor=0.5), r"0\.5"),
        (lambda c: c["audio_config"].update(num_hidden_layers=3), r"13 tensors missing.*layers\.2"),
        (lambda c: c["audio_config"].update(num_hidden_layers="2"), "got layers '2'"),
        (lambda c: c["audio_config"].update(num_attention_heads=5, num_key_value_heads=5), "5 heads"),
        (lambda c: c["audio_config"].update(intermediate_size=65), r"fc1.weight.*\(64, 32\).*\(65, 32\)"),
        (lambda c: c["streaming_config"].update(num_speakers=3), "num_speakers"),
        (lambda c: c["streaming_config"].update(speaker_cache_length=7), "spkcache_len 7"),
    ],
)
def test_configurations_of_other_networks_are_refused(folder: Path, change: Any, words: str) -> None:
    edit(folder / "config.json", change)
    with pytest.raises(ValueError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["feature_extractor"].update(sampling_rate=8000), "8000.*expected.*16000"),
        (lambda c: c["feature_extractor"].update(hop_length=80), "hop_length"),
        (lambda c: c["feature_extractor"].update(feature_size=80), "feature_size"),
        (lambda c: c["feature_extractor"].update(mel_filters_dtype="int8"), "int8"),
        (lambda c: c.update(streaming_modes={"odd": [1]}), "configuration|unpack"),
        (lambda c: c.update(streaming_modes={"odd": ["1", 2]}), "chunk_len '1'"),
    ],
)
def test_front_ends_of_other_networks_are_refused(folder: Path, change: Any, words: str) -> None:
    edit(folder / "processor_config.json", change)
    with pytest.raises(ValueError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("classifier.dense.bias"), r"1 tensors missing.*classifier\.dense\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unknown.*extra"),
        (lambda t: t["silence_embeds"].fill_(torch.nan), "silence_embeds: has values that are not finite"),
        (lambda t: t.update({"model.proj.bias": torch.zeros(5)}), r"model.proj.bias: got \(5,\), expected \(16,\)"),
        (lambda t: t.update({"model.proj.bias": torch.zeros(())}), r"model.proj.bias"),
        (
            lambda t: t.update({"model.audio_tower.layers.0.self_attn.q_proj.weight": torch.zeros(32, 31)}),
            "do not fit together",
        ),
    ],
)
def test_tensors_must_fit(folder: Path, change: Any, words: str) -> None:
    reweigh(folder, change)
    with pytest.raises(ValueError, match=words):
        load(folder)


def test_damaged_files_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="list"):
        load(folder)
    whole = oracle.save(model(), tmp_path / "whole")
    weights = whole / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors"):
        load(whole)
    (tmp_path / "text.nemo").write_text("hello")
    with pytest.raises(ValueError, match="no tar"):
        load(tmp_path / "text.nemo")


def test_older_sortformer_is_refused_by_name(tmp_path: Path) -> None:
    encoder = {"_target_": "nemo.collections.asr.modules.ConformerEncoder", "self_attention_model": "rel_pos"}
    with pytest.raises(ValueError, match=r"ConformerEncoder.*rel_pos.*v2\.1.*Nemotron-3-Diarization"):
        load(nemo(tmp_path / "v2.nemo", config={**NEMO_CONFIG, "encoder": encoder}))


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("encoder", {"xscaling": True}, "xscaling"),
        ("encoder", {"n_heads": 3}, "3 heads"),
        ("encoder", {"d_model": "${model.size}"}, "model.nemo"),
        ("preprocessor", {"normalize": "per_feature"}, "per_feature"),
        ("sortformer_modules", {"use_learnable_sil_emb": False}, "use_learnable_sil_emb"),
        ("sortformer_modules", {"num_spks": 5}, r"single_hidden_to_spks.*\(4, 16\).*\(5, 16\)"),
    ],
)
def test_nemo_of_other_networks_is_refused(tmp_path: Path, part: str, change: dict[str, Any], words: str) -> None:
    config = {**NEMO_CONFIG, part: {**NEMO_CONFIG[part], **change}}
    with pytest.raises(ValueError, match=words):
        load(nemo(tmp_path / "model.nemo", config=config))


class Harm:
    """What a pickle could do to who unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nemo_that_means_harm_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(ValueError, match="refused, nothing of it was run"):
        load(nemo(tmp_path / "a.nemo", state={"encoder.x": Harm(mark)}))
    harm = f"!!python/object/apply:os.mkdir ['{mark}']"
    with pytest.raises(ValueError, match="not plain YAML"):
        load(nemo(tmp_path / "b.nemo", config=harm))
    assert not mark.exists()


@pytest.mark.parametrize("without", ["model_config.yaml", "model_weights.ckpt"])
def test_nemo_must_be_whole(tmp_path: Path, without: str) -> None:
    with pytest.raises(ValueError, match=f"has no {without}"):
        load(nemo(tmp_path / "n3.nemo", without=without))


@pytest.mark.parametrize("state", [[torch.zeros(1)], {"a": 1}])
def test_nemo_weights_must_be_tensors_by_name(tmp_path: Path, state: object) -> None:
    with pytest.raises(ValueError, match="not a state dict"):
        load(nemo(tmp_path / "n3.nemo", state=state))
