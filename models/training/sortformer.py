"""The streaming Sortformer of transformers at a small size, as it is trained.

The weights are those of transformers' own modules and so are the results; the way through them is shorter. On a CPU with
bfloat16 a step of 8 sequences of 19 s takes 0.28 s on one thread; by transformers' own forward pass, features included, 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.voices import WIDTH, mel_bands

F = nn.functional
SLOTS, STACK, FRAME, BANDS = 4, 8, 160, 128
LOOKING = 2
DROP = 0.1  # of what each layer adds, while training
CHUNKS = {"low_latency": (9, 4), "very_low_latency": (6, 2), "ultra_low_latency": (3, 1)}


@dataclass(frozen=True)
class Size:
    """Of the network and of what it remembers, in frames of 80 ms."""

    hidden: int = 192
    layers: int = 8
    heads: int = 4
    head_hidden: int = 96
    cache: int = 188
    fifo: int = 188
    period: int = 144


def configuration(size: Size) -> Any:
    """The configuration as transformers writes it."""
    from transformers import Nemotron3DiarizationConfig

    audio = {"hidden_size": size.hidden, "intermediate_size": 4 * size.hidden, "num_hidden_layers": size.layers}
    return Nemotron3DiarizationConfig(
        audio_config=audio | {"num_attention_heads": size.heads},
        head_config={"audio_hidden_size": size.hidden, "hidden_size": size.head_hidden, "num_speakers": SLOTS},
        streaming_config={
            "num_speakers": SLOTS,
            "speaker_cache_length": size.cache,
            "fifo_length": size.fifo,
            "speaker_cache_update_period": size.period,
        },
    )


def log_mels(pcm: Tensor) -> Tensor:
    """Log mel power of the pre-emphasised wave, as the model's own processor makes it: `[B, T] -> [B, T // 160, 128]`."""
    sharp = torch.cat((pcm[:, :1], pcm[:, 1:] - 0.97 * pcm[:, :-1]), 1)
    window = torch.hann_window(400, periodic=False, device=pcm.device)
    spectrum = torch.stft(sharp, 512, FRAME, 400, window, return_complex=True, pad_mode="constant")
    power = (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)[:, : pcm.shape[1] // FRAME]
    return torch.log(power @ mel_bands(BANDS, 512).to(pcm.device) + 2**-24)


def stacked(mels: Tensor) -> Tensor:
    """Eight frames in one: `[B, T, 128] -> [B, T // 8, 1024]`."""
    return mels[:, : mels.shape[1] // STACK * STACK].unflatten(1, (-1, STACK)).flatten(2)


def attend(own: Any, x: Tensor, cos: Tensor, sin: Tensor, told: int = 0) -> tuple[Tensor, Tensor | None]:
    """Full attention with rotary positions, `[B, N, D] -> [B, N, D]`, by the weights of transformers' module `own`.

    Of the first heads, as many as are to be `told`, the logarithm of where they look, `[B, told, N, N]`, too.
    """
    one = torch.cat((own.q_proj.weight, own.k_proj.weight, own.v_proj.weight))
    qkv = F.linear(x, one).unflatten(2, (3, -1, own.head_dim))
    a, b = qkv[:, :, :2].chunk(2, -1)
    q, k = torch.cat((a * cos - b * sin, b * cos + a * sin), -1).permute(2, 0, 3, 1, 4)
    # Not `scaled_dot_product_attention`: in bfloat16 on a CPU a step with it takes 1.2 times as long.
    scores = q @ k.transpose(-1, -2) * own.scaling
    heard = scores.softmax(-1).to(qkv.dtype) @ qkv[:, :, 2].transpose(1, 2)
    looks = scores[:, :told].float().log_softmax(-1) if told else None
    return own.o_proj(heard.transpose(1, 2).flatten(2)), looks


class Network(nn.Module):
    """The published network, and a linear map to the teacher's embeddings that is only trained with."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        from transformers import Nemotron3DiarizationForAudioFrameClassification

        self.model = Nemotron3DiarizationForAudioFrameClassification(configuration(size))
        spread_out(self.model, size.layers)
        self.voice = nn.Linear(size.hidden, WIDTH)
        self.listen = size.layers // 2
        middle, last = range(size.layers // 4, max(1, 3 * size.layers // 4)), size.layers - 1
        self.looking = middle  # layers with heads that are told where to look
        self.early = nn.ModuleDict({str(n): nn.Linear(size.hidden, SLOTS) for n in range(middle.start, last)})

    def forward(self, mels: Tensor, silent: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Logits `[B, N * 8, 4]` of stacked frames `[B, N, 1024]`, and three things that are only trained with.

        These are what the teacher is to recognise, `[B, N, 256]`; where `LOOKING` heads of each of the middle layers look,
        `[B, LOOKING, N, N]`, as logarithms; what all layers but the first ones and the last would tell, `[B, N, 4]`. Where
        `silent [B, N]`, the frame is the learned silence of a compressed cache.
        """
        tower, head = self.model.model.audio_tower, self.model.model.upsampler.conv
        x = tower.embedder.projection(mels)
        x = tower.input_layer_norm(torch.where(silent[..., None], self.model.silence_embeds.to(x), x))
        turn = tower.rotary_emb.inv_freq * torch.arange(x.shape[1], device=x.device)[:, None]
        cos, sin = (part[:, None, None].to(x.dtype) for part in (turn.cos(), turn.sin()))
        heard, looks, early = x, [], []
        for number, layer in enumerate(tower.layers):
            heard = x if number == self.listen else heard
            told = LOOKING if number in self.looking and self.training else 0
            more, look = attend(layer.self_attn, layer.layer_norm1(x), cos, sin, told)
            looks += [look] if look is not None else []
            x = x + F.dropout(more, DROP, self.training)
            more = layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.layer_norm2(x))))
            x = x + F.dropout(more, DROP, self.training)
            if self.training and str(number) in self.early:
                early.append(self.early[str(number)](F.layer_norm(x, x.shape[-1:])))
        x = self.model.model.proj(tower.layer_norm(x))
        wide = torch.cat((F.pad(x[:, :-1], (0, 0, 1, 0)), x, F.pad(x[:, 1:], (0, 0, 0, 1))), -1)
        finer = F.linear(wide, head.weight.transpose(1, 2).flatten(1), head.bias).unflatten(2, (STACK, -1))
        return self.model.classifier(finer.flatten(1, 2)), self.voice(heard), tuple(looks), tuple(early)


def principal(features: Tensor, count: int) -> Tensor:
    """Where the first projection starts: `[T, 128] -> [count, 1024]`.

    It has no bias, and log mels are far from zero: random rows would tell mostly the mean. The first row is the level; the
    others are the first principal directions of stacked frames among those that do not see the mean, each scaled by the
    root of its spread, so that fine detail neither dominates nor vanishes.
    """
    frames = stacked(features[None])[0].double()
    mean = F.normalize(frames.mean(0), dim=0)
    level = frames @ mean
    blind = frames - level[:, None] * mean
    blind = blind - blind.mean(0)
    spread, directions = torch.linalg.eigh(blind.T @ blind / len(blind))
    rows = (directions[:, 1 - count :] / (spread[1 - count :].clamp(min=1e-6) ** 0.25)).T
    rows = rows - (rows @ mean)[:, None] * mean
    return torch.cat(((mean / level.std())[None], rows / (blind @ rows.T).std())).float()


def spread_out(network: nn.Module, layers: int) -> None:
    """Weights of variance 1 / inputs, less where they add to the residual path.

    At the 0.02 of the published configuration so narrow a network hardly hears its input: after 300 steps it could not
    tell speech from silence (45 % of frames wrong, with this 13 %).
    """
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 2:
                adds = name.endswith(("o_proj.weight", "fc2.weight"))
                weight.normal_(0, weight.shape[1] ** -0.5 / ((2 * layers) ** 0.5 if adds else 1))


@torch.no_grad()
def streamed(network: nn.Module, pcm: NDArray[np.float32], profile: str, device: str = "cpu") -> NDArray[np.float32]:
    """Probabilities `[B, T // 160, 4]` of meetings of equal length, step by step through the model's own cache."""
    assert isinstance(network, Network)
    chunk, right = CHUNKS[profile]
    features = log_mels(torch.from_numpy(pcm).to(device))
    frames, cache, told = -(-features.shape[1] // STACK), None, []
    for start in range(0, frames, chunk):
        piece = features[:, start * STACK : (start + chunk + right) * STACK]
        ahead = min(right, max(0, -(-piece.shape[1] // STACK) - chunk))
        out = network.model(piece, speaker_cache=cache, num_lookahead_frames=ahead)
        cache = out.speaker_cache
        told.append(out.logits[:, : min(chunk, frames - start) * STACK].sigmoid().cpu())
    return np.asarray(torch.cat(told, 1)[:, : features.shape[1]].numpy(), np.float32)
