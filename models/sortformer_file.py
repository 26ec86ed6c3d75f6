"""Checkpoints of the streaming Sortformer by path or name: transformers' folders here, NVIDIA's `.nemo` beside.

Neither transformers nor NeMo is needed. A folder has `config.json`, `model.safetensors` and, for the front end,
`processor_config.json` (or, older, `preprocessor_config.json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from models import hub, sortformer_nemo
from models.diarizer import Profile, Spec
from models.fingerprint import identified
from models.sortformer_cache import Policy
from models.sortformer_features import FFT, HOP, WINDOW, Front
from models.sortformer_keys import Found, Table, fixed, ours, parsed, profiles
from models.sortformer_network import STACK, Config

KIND = "nemotron3_diarization"
LICENCES = {"nvidia/nemotron-3-diarization": "OpenMDW-1.1"}

NAMES: Table = {
    "silence": ("silence_embeds",),
    "embed.weight": ("model.audio_tower.embedder.projection.weight",),
    "norm_in.*": ("model.audio_tower.input_layer_norm.*",),
    "layers.{}.norm1.*": ("model.audio_tower.layers.{}.layer_norm1.*",),
    "layers.{}.qkv.weight": tuple(f"model.audio_tower.layers.{{}}.self_attn.{one}_proj.weight" for one in "qkv"),
    "layers.{}.out.*": ("model.audio_tower.layers.{}.self_attn.o_proj.*",),
    "layers.{}.norm2.*": ("model.audio_tower.layers.{}.layer_norm2.*",),
    "layers.{}.up.*": ("model.audio_tower.layers.{}.mlp.fc1.*",),
    "layers.{}.down.*": ("model.audio_tower.layers.{}.mlp.fc2.*",),
    "norm_out.*": ("model.audio_tower.layer_norm.*",),
    "narrow.*": ("model.proj.*",),
    "finer.*": ("model.upsampler.conv.*",),
    "dense.*": ("classifier.dense.*",),
    "speakers.*": ("classifier.out_proj.*",),
}


def read(source: str | Path) -> Found:
    """A checkpoint by path, or by name where the hub's cache on this machine has it.

    Raises:
        FileNotFoundError: nothing there, saying what was expected and how to get it.
        ValueError: of another format or architecture, or tensors that do not fit, naming them.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return sortformer_nemo.read(path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        return _folder(hub.folder(source), LICENCES.get(str(source).lower(), "unknown"))
    raise FileNotFoundError(f"{source}: expected a folder with config.json, a .nemo file, or a hub name owner/model")


def describe(name: str, found: Found) -> Spec:
    """What the registry shows of it."""
    spec = Spec(name, found.config.speakers, found.profiles, licence=found.licence)
    return cast(Spec, identified(cast(Any, spec), found.weights.items()))


def _folder(path: Path, licence: str = "unknown") -> Found:
    """What transformers' `save_pretrained` writes."""
    from safetensors import SafetensorError, safe_open

    for needed in ("config.json", "model.safetensors"):
        if not (path / needed).is_file():
            raise FileNotFoundError(f"{path / needed}: no such file; expected config.json and model.safetensors")
    told = _json(path / "config.json")
    if told.get("model_type") != KIND:
        raise ValueError(f"{path}: got model_type {told.get('model_type')!r}, expected {KIND!r}")
    options = [path / "processor_config.json", path / "preprocessor_config.json"]
    processor = next((_json(one) for one in options if one.is_file()), {})
    try:
        with safe_open(str(path / "model.safetensors"), framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None
    config = parsed(path, lambda: _config(told, processor))
    uses = parsed(path, lambda: _profiles(told["streaming_config"], processor.get("streaming_modes", {})))
    return Found(config, ours(path, state, NAMES, config), uses, _licence(path) or licence)


def _licence(path: Path) -> str:
    """As the recipe of this project notes it beside the weights."""
    notes = path / "notes.txt"
    found = re.search(r"^licence: (.+)$", notes.read_text("utf-8"), re.MULTILINE) if notes.is_file() else None
    return found[1] if found else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(told, dict):
        raise ValueError(f"{path}: got {type(told).__name__}, expected an object")
    return told


def _config(told: Mapping[str, Any], processor: Mapping[str, Any]) -> Config:
    audio, head, streaming = told["audio_config"], told["head_config"], told["streaming_config"]
    heads, rope = audio["num_attention_heads"], audio.get("rope_parameters") or {}
    fixed(audio, {"hidden_act": "gelu", "subsampling_factor": STACK, "num_key_value_heads": heads}, "audio_config")
    fixed(rope, {"rope_type": "default", "partial_rotary_factor": 1.0}, "rope_parameters")
    fixed(head, {"audio_hidden_size": audio["hidden_size"], "subsampling_factor": STACK}, "head_config")
    fixed(streaming, {"num_speakers": head["num_speakers"], "subsampling_factor": STACK}, "streaming_config")
    sound = processor.get("feature_extractor", processor)
    bands = audio.get("num_mel_bins", 128)
    sizes = {"sampling_rate": 16000, "hop_length": HOP, "n_fft": FFT, "win_length": WINDOW, "feature_size": bands}
    fixed(sound, sizes, "the feature extractor")
    return Config(
        hidden=audio["hidden_size"],
        inner=audio["intermediate_size"],
        layers=audio["num_hidden_layers"],
        heads=heads,
        head=head["hidden_size"],
        speakers=head["num_speakers"],
        theta=rope.get("rope_theta", 10000.0),
        positions=audio.get("max_position_embeddings", 5000),
        front=Front(bands, sound.get("preemphasis", 0.97), sound.get("mel_filters_dtype", "float32")),
        policy=Policy(
            streaming["speaker_cache_silence_frames_per_speaker"],
            streaming["prediction_score_threshold"],
            streaming["latest_frames_score_boost"],
            streaming["strong_boost_rate"],
            streaming["weak_boost_rate"],
            streaming["min_positive_scores_rate"],
        ),
    )


def _profiles(streaming: Mapping[str, Any], modes: Mapping[str, Any]) -> dict[str, Profile]:
    """Those of every network, and the processor's modes, (chunk, right context) each, under its own names."""
    fifo, period = streaming["fifo_length"], streaming["speaker_cache_update_period"]
    base = Profile(9, 4, fifo, period, streaming["speaker_cache_length"])
    return profiles(base, {name: (chunk, right) for name, (chunk, right) in modes.items()})
