"""transformers' own streaming Sortformer: checkpoints of random weights that tell speakers apart, and what it says of a sound."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    Nemotron3DiarizationConfig,
    Nemotron3DiarizationForAudioFrameClassification,
    Nemotron3DiarizationProcessor,
    NemotronAsrStreamingFeatureExtractor,
)
from transformers.models.nemotron3_diarization.modeling_nemotron3_diarization import (
    Nemotron3DiarizationSpeakerCache as SpeakerCache,
)

from models.diarizer import Profile
from streaming.framing import Array

STREAMING = {"fifo_length": 188, "speaker_cache_update_period": 144, "speaker_cache_length": 188}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4}


def voices(seconds: float, seed: int = 0) -> Array:
    """Four voices, alone and together, of different pitch and colour, in turns of 0.3 to 3 s with pauses."""
    rng, length = np.random.default_rng(seed), round(seconds * 16000)
    time, sound = np.arange(length) / 16000, 1e-4 * rng.standard_normal(length)
    for pitch, tilt in ((90, 0.7), (140, 1.5), (210, 1.0), (330, 2.0)):
        voice = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k**tilt for k in range(1, 12))
        at = rng.uniform(0, 2) * 16000
        while at < length:
            n = int(rng.uniform(0.3, 3) * 16000)
            part = slice(int(at), min(int(at) + n, length))
            sound[part] += (0.1 * voice * (1 + 0.8 * np.sin(2 * np.pi * 4 * time)))[part]
            at += n + rng.uniform(0.1, 6) * 16000
    return sound.astype(np.float32)


def make_model(
    audio: dict[str, int] | None = None, speakers: int = 4, seed: int = 0, gain: float = 1.5, **streaming: Any
) -> Any:
    """A network of random weights whose outputs are each above and below one half on `voices`."""
    audio = audio or TINY
    torch.manual_seed(seed)
    config = Nemotron3DiarizationConfig(
        audio_config=audio,
        head_config={
            "audio_hidden_size": audio["hidden_size"],
            "hidden_size": audio["hidden_size"] // 2,
            "num_speakers": speakers,
        },
        streaming_config={**STREAMING, "num_speakers": speakers, **streaming},
    )
    model = Nemotron3DiarizationForAudioFrameClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, gain / parameter[0].numel() ** 0.5)
        model.silence_embeds.normal_()
        finer = model.model.upsampler.conv.weight  # eight frames much alike, as after training: their mean is judged
        finer.mul_(0.3)[:, :, 1] += torch.eye(finer.shape[1]).repeat(8, 1)
        heard = processor()([voices(16, seed=99)], sampling_rate=16000, return_tensors="pt").input_features
        logits = model(heard).logits[0]
        scale = 3 / logits.std(0)
        last = model.classifier.out_proj
        last.weight.mul_(scale[:, None])
        last.bias.sub_(logits.mean(0)).mul_(scale).sub_(2)
    return model


def processor(mode: tuple[int, int] = (9, 4)) -> Any:
    """With one mode, (chunk, right context)."""
    features = NemotronAsrStreamingFeatureExtractor(feature_size=128)
    return Nemotron3DiarizationProcessor(features, streaming_modes={"only": mode}, streaming_mode="only")


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    features = NemotronAsrStreamingFeatureExtractor(feature_size=128)
    Nemotron3DiarizationProcessor(features).save_pretrained(folder)
    return folder


def cache_of(model: Any, profile: Profile) -> Any:
    """The state of transformers' streaming with these parameters."""
    config = copy.deepcopy(model.config.streaming_config)
    config.speaker_cache_length = profile.spkcache_len
    return SpeakerCache(config, profile.fifo_len, profile.spkcache_update_period)


@contextmanager
def settled() -> Iterator[None]:
    """With the first of equals in `torch.topk`, which leaves open which one it is.

    Equals do occur: a frame that was kept for two speakers is there twice. Which copy is taken next changes the order of
    the frames, so everything after it.
    """

    def first(values: torch.Tensor, k: int, dim: int = -1, sorted: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        ordered = torch.sort(values, dim=dim, descending=True, stable=True)
        return ordered.values.narrow(dim, 0, k), ordered.indices.narrow(dim, 0, k)

    before = torch.topk
    torch.topk = first  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.topk = before


@torch.no_grad()
def stream(model: Any, pcm: Array, profile: Profile) -> tuple[Array, Any]:
    """Probabilities `[T // 160, speakers]` step by step through processor and cache, and the cache in the end.

    A chunk is heard as soon as all of its windows lie in the sound: what the processor takes beyond is not in any
    window, so zeros stand for it where the sound ends.
    """
    if profile.chunk_left_context:
        return _with_left_context(model, pcm, profile)
    ours = processor((profile.chunk_len, profile.chunk_right_context))
    cache, told, mel, last = cache_of(model, profile), [], 0, len(pcm) < 160
    while not last:
        first, begin = mel == 0, max(ours.audio_chunk_start(mel), 0)
        size = ours.num_samples_first_audio_chunk if first else ours.num_samples_per_audio_chunk
        last = (mel + ours.num_mel_frames_per_audio_chunk - 1) * 160 + 200 > len(pcm)
        piece = pcm[begin:] if last else np.pad(pcm[begin : begin + size], (0, max(0, begin + size - len(pcm))))
        flags = {"is_streaming": True, "is_first_audio_chunk": first, "is_last_audio_chunk": last}
        inputs = ours([piece], sampling_rate=16000, return_tensors="pt", **flags)
        if inputs.input_features.shape[1]:
            told.append(model(**inputs, speaker_cache=cache).logits[0].sigmoid().numpy())
        mel += ours.num_mel_frames_per_step
        last = last or mel >= len(pcm) // 160
    return np.concatenate(told) if told else np.zeros((0, cache.num_speakers), np.float32), cache


def _with_left_context(model: Any, pcm: Array, p: Profile) -> tuple[Array, Any]:
    """The processor has no left context, the model has: frames of the whole sound, cut here."""
    mel = processor()([pcm], sampling_rate=16000, return_tensors="pt").input_features[:, : len(pcm) // 160]
    cache, told, at, last = cache_of(model, p), [], 0, False
    while not last:
        end = at + 8 * (p.chunk_len + p.chunk_right_context)
        last = (end - 1) * 160 + 200 > len(pcm)
        back = min(p.chunk_left_context, at // 8)
        piece = mel[:, at - 8 * back :] if last else mel[:, at - 8 * back : end]
        ahead = 0 if last else p.chunk_right_context
        out = model(piece, speaker_cache=cache, num_lookback_frames=back, num_lookahead_frames=ahead)
        told.append(out.logits[0].sigmoid().numpy())
        at += 8 * p.chunk_len
        last = last or at >= mel.shape[1]
    return np.concatenate(told), cache
