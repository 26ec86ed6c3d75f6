"""NVIDIA's `.nemo` file of the streaming Sortformer, read without NeMo.

It is a tar of `model_config.yaml` and `model_weights.ckpt`, a torch state dict of which only tensors are read. The names
are those that NVIDIA-NeMo/Speech writes for Nemotron-3-Diarization (its `sortformer_streaming_8spk.yaml`).
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from models import weights
from models.diarizer import Profile
from models.sortformer_cache import Policy
from models.sortformer_features import FFT, HOP, WINDOW, Front
from models.sortformer_keys import Found, Table, fixed, ours, parsed, profiles
from models.sortformer_network import STACK, Config

PUBLISHED = Profile(9, 4, 264, 222, 264)  # of NVIDIA's card at 1.04 s

NAMES: Table = {
    "silence": ("sortformer_modules.learnable_sil_emb",),
    "embed.weight": ("encoder.pre_encode.proj.weight",),
    "norm_in.*": ("encoder.embed_norm.*",),
    "layers.{}.norm1.*": ("encoder.layers.{}.norm1.*",),
    "layers.{}.qkv.weight": ("encoder.layers.{}.attn.w_qkv.weight",),
    "layers.{}.out.*": ("encoder.layers.{}.attn.out_proj.*",),
    "layers.{}.norm2.*": ("encoder.layers.{}.norm2.*",),
    "layers.{}.up.*": ("encoder.layers.{}.ffn.net.0.*",),
    "layers.{}.down.*": ("encoder.layers.{}.ffn.net.3.*",),
    "norm_out.*": ("encoder.final_norm.*",),
    "narrow.*": ("sortformer_modules.encoder_proj.*",),
    "finer.*": ("sortformer_modules.subpixel_upsample.*",),
    "dense.*": ("sortformer_modules.first_hidden_to_hidden.*",),
    "speakers.*": ("sortformer_modules.single_hidden_to_spks.*",),
}
# Heads that only training uses, and the front end, which is made anew.
UNUSED = ("sortformer_modules.hidden_to_spks.", "sortformer_modules.activity_head.", "preprocessor.featurizer.")


def read(path: Path) -> Found:
    """A `.nemo` file. Only the two files that are needed leave the archive, whatever names the others have."""
    import yaml

    if not tarfile.is_tarfile(path):
        raise ValueError(f"{path}: got a file that is no tar, expected a .nemo archive or a folder")
    with TemporaryDirectory() as scratch, tarfile.open(path) as archive:
        members = {PurePosixPath(one.name).name: one for one in archive.getmembers() if one.isfile()}
        parts = {}
        for needed in ("model_config.yaml", "model_weights.ckpt"):
            content = archive.extractfile(members[needed]) if needed in members else None
            if content is None:
                raise ValueError(f"{path}: has no {needed}, expected a .nemo archive")
            parts[needed] = Path(scratch, needed)
            with parts[needed].open("wb") as file:
                while piece := content.read(1 << 20):
                    file.write(piece)
        try:
            told = yaml.safe_load(parts["model_config.yaml"].read_text("utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: model_config.yaml is not plain YAML ({type(error).__name__})") from None
        config = parsed(path, lambda: _config(told))
        state = weights.unpickle(parts["model_weights.ckpt"], [])
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise ValueError(f"{path}: model_weights.ckpt is not a state dict")
    state = {key: value for key, value in state.items() if not key.startswith(UNUSED)}
    return Found(config, ours(path, state, NAMES, config), profiles(PUBLISHED))


def _config(told: Mapping[str, Any]) -> Config:
    """NeMo's names. Its streaming numbers are those of training and say nothing about use: `PUBLISHED` stands for them."""
    encoder, modules, sound = told["encoder"], told["sortformer_modules"], told["preprocessor"]
    if encoder.get("self_attention_model") != "rope":
        raise ValueError(
            f"got a {encoder.get('_target_', 'network').rpartition('.')[2]} with self_attention_model "
            f"{encoder.get('self_attention_model')!r}, expected 'rope': v1, v2 and v2.1 of Sortformer are another network. "
            "Nemotron-3-Diarization is the one that runs here"
        )
    same = {"subsampling": "feature_stacking", "subsampling_factor": STACK, "qkv_bias": False, "qk_norm": False}
    fixed(encoder, same | {"pre_block_norm": True, "xscaling": False}, "encoder")
    fixed(modules, {"use_learnable_sil_emb": True}, "sortformer_modules")
    fixed(told, {"high_resolution": True, "streaming_mode": True}, "model_config.yaml")
    fixed(sound, {"normalize": "NA", "sample_rate": 16000, "n_fft": FFT, "window": "hann"}, "preprocessor")
    fixed(sound, {"window_size": WINDOW / 16000, "window_stride": HOP / 16000}, "preprocessor")
    return Config(
        hidden=encoder["d_model"],
        inner=int(encoder.get("ff_expansion", 4.0) * encoder["d_model"]),
        layers=encoder["n_layers"],
        heads=encoder["n_heads"],
        head=modules["tf_d_model"],
        speakers=modules["num_spks"],
        theta=encoder.get("rope_base", 10000.0),
        positions=encoder.get("pos_emb_max_len", 5000),
        front=Front(encoder["feat_in"], sound.get("preemph", 0.97)),
        policy=Policy(**{one.name: modules[one.name] for one in fields(Policy) if one.name in modules}),
    )
