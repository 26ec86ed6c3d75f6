"""pyannote's ToTaToNet (PixIT, arXiv 2403.02288) as a windowed separator that also tells who speaks in each window.

It separates the few seconds that it was trained on into three voices, in an order of its own in each window
(`streaming.align` puts them in one), and says when each speaks (`models.hearing`). Of a whole separation pipeline only this model
is taken: the clustering of its speakers hears the whole file. Live, `models.hearing_diarizer` is in its place.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import hub, pyannote_file
from models.fingerprint import identified
from models.separator import Listing, Spec
from models.totatonet_network import MASKS, Config, Network
from streaming.choose import frame
from streaming.framing import Array, Framing

KIND = "pyannote.audio.models.separation.ToTaToNet.ToTaToNet"
WAVLM = "microsoft/wavlm-large"
# pyannote's defaults, for what a checkpoint does not say.
ENCODER = {"fb_name": "free", "kernel_size": 32, "n_filters": 64, "stride": 16}
DPRNN = {"n_repeats": 6, "bn_chan": 128, "hid_size": 128, "chunk_size": 100, "hop_size": None, "norm_type": "gLN"}
DPRNN |= {"mask_act": "relu", "rnn_type": "LSTM", "bidirectional": True, "use_mulcat": False, "num_layers": 1}
DPRNN |= {"dropout": 0}
LINEAR = {"hidden_size": 64, "num_layers": 2}
DIAR = {"frames_per_second": 125}
FIXED = {"fb_name": "free", "norm_type": "gLN", "rnn_type": "LSTM", "use_mulcat": False}
LARGEST = 16_384


class ToTaToNetSeparator:
    """A `models.separator.Separator` that also tells who speaks. `load` makes it."""

    def __init__(self, spec: Spec, network: Network, device: torch.device) -> None:
        self.spec, self.network, self.device = spec, network.to(device).eval(), device
        self.frame = network.c.pool * network.c.stride

    def start(self) -> None:
        """Stateless."""
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        """Separate windows; see `models.separator.Separator`. `[B, 1, W] -> [B, 3, 1, W]`, W at most the trained length.

        Raises:
            ValueError: a length, channel count or number of states that does not fit, naming both.
        """
        if len(pcm) != len(states):
            raise ValueError(f"got pcm {pcm.shape} with {len(states)} states, expected [B, 1, W] with B states")
        return self.both(pcm)[0], list(states)

    def activity(self, pcm: Array) -> Array:
        """Who speaks in each window: probabilities `[B, F, 3]` of windows `[B, 1, W]`.

        Column s is of output s of `run` on the same window, and of that window only. Frame f is the mean over
        `[frame * f, frame * f + frame + 16)`, `frame` = 128 samples of 16 kHz.
        """
        return self.both(pcm)[1]

    def both(self, pcm: Array) -> tuple[Array, Array]:
        """What `run` and `activity` tell, for the price of one."""
        rows, channels, width = pcm.shape
        c = self.network.c
        if channels != 1 or not rows:
            raise ValueError(f"got pcm {pcm.shape}, expected [B, 1, W]")
        least = c.kernel + c.stride * (c.pool - 1)
        if not least <= width <= c.window:
            raise ValueError(f"got a window of {width} samples, {self.spec.name} takes {least} to {c.window}")
        with torch.inference_mode():
            stems, spoken = self.network(torch.from_numpy(np.array(pcm[:, 0], dtype=np.float32)).to(self.device))
            return stems[:, :, None].contiguous().cpu().numpy(), spoken.contiguous().cpu().numpy()


def load(source: str | Path, name: str | None = None, *, device: str | None = None) -> ToTaToNetSeparator:
    """The separator of a pipeline's folder, a model's folder or file, or a hub name that this machine's cache has.

    A model with WavLM needs transformers, and WavLM's sizes: `wavlm/config.json` in the folder, or WAVLM in the hub's cache.
    Its weights are in the checkpoint.

    Raises:
        FileNotFoundError: something is not on this machine, saying what and how to get it.
        ImportError: transformers is needed. ValueError: another model; nothing of it was run.
    """
    folder, where, found = _read(source)
    state = _modern(found["state_dict"])
    below = _wavlm(folder, state)
    told = below.config if below else None
    config = _config(where, found, state, (told.hidden_size, math.prod(told.conv_stride)) if told else (0, 0))
    network = _filled(where, config, below, state)
    spec = Spec(
        name=name or Path(source).stem,
        rate=config.rate,
        channels=1,
        sources=_sources(config),
        framing=_framing(config),
        windows=(config.window,),
        interchangeable=True,
        licence=_licence(where),
        threads=0,
    )
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return ToTaToNetSeparator(identified(spec, state.items()), network, on)


def describe(source: str | Path) -> Listing:
    """What a folder holds, without keeping its tensors or making the network. Raises as `load`, but for those."""
    _, where, found = _read(source)
    config = _config(where, found, found["state_dict"], (0, 0))
    return Listing(_sources(config), config.rate, _licence(where))


def _framing(c: Config) -> Framing:
    """A tenth of the window at a time, as PixIT's own pipeline steps; lookahead and cross-fade of at most 0.5 and 0.05 s."""
    tenth = max(1, c.window // 10)
    return frame(c.window, tenth, min(c.rate // 2, tenth), min(c.rate // 20, max(1, tenth // 2)))


def _sources(c: Config) -> tuple[str, ...]:
    return tuple(f"speaker_{n + 1}" for n in range(c.speakers))


def _licence(where: Path) -> str:
    return hub.licence(where if where.is_dir() else where.parent)


def _read(source: str | Path) -> tuple[Path, Path, dict[str, Any]]:
    """The folder, the place of the checkpoint, and what that holds."""
    folder = hub.folder(source)
    where = folder
    if (folder / pyannote_file.CONFIG).is_file():
        told = pyannote_file.config(folder)["pipeline"]
        if str(told.get("name")).rpartition(".")[2] != "SpeechSeparation":
            raise ValueError(f"{folder}: got the pipeline {told.get('name')}, expected SpeechSeparation")
        where = pyannote_file.part(folder, told["params"].get("segmentation"), "segmentation")
    found = pyannote_file.checkpoint(where)
    if pyannote_file.architecture(found) != KIND:
        raise ValueError(f"{where}: got {pyannote_file.architecture(found)}, expected {KIND}")
    return folder if folder.is_dir() else folder.parent, where, found


def _config(where: Path, found: Mapping[str, Any], state: Mapping[str, Tensor], below: tuple[int, int]) -> Config:
    told = found.get("hyper_parameters", {})
    encoder, dprnn, linear, diar = (
        {**usual, **(told.get(key) or {})}
        for key, usual in (("encoder_decoder", ENCODER), ("dprnn", DPRNN), ("linear", LINEAR), ("diar", DIAR))
    )
    for part, usual in ((encoder, ENCODER), (dprnn, DPRNN), (linear, LINEAR), (diar, DIAR)):
        if odd := {key: value for key, value in part.items() if key not in usual or value != FIXED.get(key, value)}:
            raise ValueError(f"{where}: has {odd}, which is not built here")
    rate, duration = told.get("sample_rate", 16000), _duration(where, found)
    hop = dprnn["chunk_size"] // 2 if dprnn["hop_size"] is None else dprnn["hop_size"]
    sizes = [dprnn[key] for key in ("bn_chan", "hid_size", "chunk_size", "n_repeats", "num_layers")]
    sizes += [encoder[key] for key in ("n_filters", "kernel_size", "stride")] + [hop, linear["hidden_size"]]
    if not all(type(size) is int and 1 <= size <= LARGEST for size in sizes) or dprnn["mask_act"] not in MASKS:
        raise ValueError(f"{where}: got sizes {sizes} and masks by {dprnn['mask_act']}")
    pool, window = int(rate / diar["frames_per_second"] / encoder["stride"]), round(duration * rate)
    if not (type(rate) is int and 8000 <= rate <= 192_000 and pool >= 1 and 0 < window <= 60 * rate):
        raise ValueError(f"{where}: got {rate} Hz, windows of {window} samples, {pool} frames in one of who speaks")
    masks = state.get("masker.first_out.1.weight")
    return Config(
        rate=rate,
        window=window,
        speakers=1 if masks is None else len(masks) // dprnn["bn_chan"],
        filters=encoder["n_filters"],
        kernel=encoder["kernel_size"],
        stride=encoder["stride"],
        width=dprnn["bn_chan"],
        hidden=dprnn["hid_size"],
        chunk=dprnn["chunk_size"],
        hop=hop,
        repeats=dprnn["n_repeats"],
        layers=dprnn["num_layers"],
        mask=dprnn["mask_act"],
        bidirectional=bool(dprnn["bidirectional"]),
        below=below[0],
        step=below[1],
        ears=(linear["hidden_size"], linear["num_layers"]),
        pool=pool,
    )


def _duration(where: Path, found: Mapping[str, Any]) -> float:
    """Seconds that it was trained on."""
    told = found["pyannote.audio"].get("specifications")
    first = told[0] if isinstance(told, tuple) and told else told
    problem = getattr(first, "problem", None)
    if problem not in (pyannote_file.Problem.BINARY_CLASSIFICATION, pyannote_file.Problem.MULTI_LABEL_CLASSIFICATION):
        raise ValueError(f"{where}: got the problem {problem}, expected one probability a speaker")
    return float(first.duration)


def _modern(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the names that torch gives the parts of a normalised weight since 2.1."""
    end = "pos_conv_embed.conv."
    parts = {f"{end}weight_g": f"{end}parametrizations.weight.original0"}
    parts |= {f"{end}weight_v": f"{end}parametrizations.weight.original1"}
    return {next((k.replace(a, b) for a, b in parts.items() if k.endswith(a)), k): v for k, v in state.items()}


def _wavlm(folder: Path, state: Mapping[str, Tensor]) -> Any:
    """WavLM of the sizes told on this machine, with weights yet to come; None for a checkpoint without it."""
    if not any(name.startswith("wavlm.") for name in state):
        return None
    try:
        from transformers import WavLMConfig, WavLMModel
    except ImportError:
        raise ImportError(f"{folder}: a ToTaToNet with WavLM needs transformers: pip install transformers") from None
    local = folder / "wavlm"
    place = local if (local / "config.json").is_file() else hub.folder(WAVLM)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # of transformers, about torch
        return WavLMModel(WavLMConfig.from_json_file(place / "config.json"))


def _filled(where: Path, config: Config, below: nn.Module | None, state: Mapping[str, Tensor]) -> Network:
    """The network with these weights: every one there, none left over, all shapes right, all values finite."""
    with torch.device("meta"):
        network = Network(config, below)
    if bad := [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise ValueError(f"{where}: has values that are not finite numbers in {', '.join(bad[:5])}")
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:6]]
        raise ValueError(f"{where}: tensors that do not fit: {' '.join(lines)}") from None
    return network.requires_grad_(False).float()
