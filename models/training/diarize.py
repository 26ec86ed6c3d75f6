"""The streaming Sortformer of transformers at a small size, trained on simulated meetings.

Sources: T. Park et al., "Sortformer", 2024 (arXiv:2409.06656): outputs are people in the order of their first words, asked
for by a loss in that order together with one in the best order; I. Medennikov et al., "Streaming Sortformer", 2025
(arXiv:2507.18446): what a stream hears at each step is [frames kept of everybody | recent frames | new frames].

That is what is trained on here, in one pass for all steps: half of the sequences are the beginning of a meeting; in the
other half all but the last seconds have gone through the same compression as in a stream, by the probabilities that a
good model would have given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.sortformer_cache import Policy, compress
from models.training.data import SpeechBank
from models.training.meetings import Flags, Meeting, MeetingMixer
from models.training.voices import WIDTH, mel_bands

SLOTS, STACK, FRAME = 4, 8, 160
CHUNKS = {"low_latency": (9, 4), "very_low_latency": (6, 2), "ultra_low_latency": (3, 1)}
SPEAKING = (0.15, 0.35, 0.28, 0.22)  # shares of meetings of one to four people


@dataclass(frozen=True)
class Size:
    """Of the network and of what it remembers, in frames of 80 ms."""

    hidden: int = 192
    layers: int = 6
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


class Network(nn.Module):
    """The published network, its features, and a linear map to the teacher's embeddings that is only trained with."""

    bands: Tensor
    window: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        from transformers import Nemotron3DiarizationForAudioFrameClassification

        self.model = Nemotron3DiarizationForAudioFrameClassification(configuration(size))
        spread_out(self.model, size.layers)
        self.voice = nn.Linear(size.hidden, WIDTH)
        self.listen = size.layers // 2
        self.register_buffer("bands", mel_bands(128, 512), persistent=False)
        self.register_buffer("window", torch.hann_window(400, periodic=False), persistent=False)

    def features(self, pcm: Tensor) -> Tensor:
        """Log mel power of the pre-emphasised wave, as the model's own processor makes it: `[B, T] -> [B, T // 160, 128]`."""
        sharp = torch.cat((pcm[:, :1], pcm[:, 1:] - 0.97 * pcm[:, :-1]), 1)
        spectrum = torch.stft(sharp, 512, FRAME, 400, self.window, return_complex=True, pad_mode="constant")
        power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)[:, : pcm.shape[1] // FRAME]
        return torch.log(power @ self.bands + 2**-24)

    def forward(self, pcm: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the chosen frames, `[B, N * 8, 4]`, and what the teacher is to recognise, `[B, N, 256]`.

        `chosen [B, N]` are numbers of frames of 80 ms, -1 for the learned silence.
        """
        model = self.model
        frames = model.model.audio_tower.embedder(self.features(pcm))
        silence = model.silence_embeds.expand(len(pcm), 1, -1)
        frames = torch.cat((frames, silence.to(frames)), 1)
        index = torch.where(chosen < 0, frames.shape[1] - 1, chosen)
        frames = frames.gather(1, index[..., None].expand(-1, -1, frames.shape[-1]))
        told = model.model.audio_tower(inputs_embeds=frames, output_hidden_states=True)
        up = model.model.upsampler(model.model.proj(told.last_hidden_state))
        return model.classifier(up), self.voice(told.hidden_states[self.listen])


def principal(features: Tensor, count: int) -> Tensor:
    """Where the first projection starts: `[T, 128] -> [count, 1024]`.

    It has no bias, and log mels are far from zero: random rows would tell mostly the mean. The first row is the level; the
    others are the first principal directions of stacked frames among those that do not see the mean, each scaled by the
    root of its spread, so that fine detail neither dominates nor vanishes.
    """
    stacked = features[: len(features) // STACK * STACK].reshape(-1, STACK * features.shape[1]).double()
    mean = nn.functional.normalize(stacked.mean(0), dim=0)
    level = stacked @ mean
    blind = stacked - level[:, None] * mean
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


def compressed(rng: np.random.Generator, active: Flags, size: Size, doubt: float | None = None) -> NDArray[np.int64]:
    """Which of the frames `[P, 4]` (share of speech in 80 ms) a stream would have kept, -1 for silence, `[cache]`.

    The rule is the model's own; the probabilities are those of a model that may be good or bad: a stream of a doubtful one
    keeps other frames than that of a sure one, and has to do with them. `doubt`: from 0 to 0.8, drawn if not given.
    """
    if len(active) <= size.cache:
        return np.arange(len(active))
    doubt = rng.uniform(0, 0.8) if doubt is None else doubt
    yes = 1 - doubt * rng.random(active.shape)
    yes *= np.where(rng.random(active.shape) < 0.05 + 0.2 * doubt, rng.random(active.shape), 1)
    no = (0.2 + doubt) * rng.random(active.shape) ** 3
    probs = torch.from_numpy((active * yes + (1 - active) * no).astype(np.float32))
    kept, _ = compress(torch.arange(len(active))[:, None], probs, size.cache, torch.tensor([-1]), Policy())
    return np.asarray(kept[:, 0].numpy())


def in_order(logits: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy in the order given, and in the best order of people, each `[B]`; `[B, T, 4]`, weight `[B, T]`."""
    weight = weight / weight.sum(1, keepdim=True)
    on, off = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
    yes, no = wanted * weight[..., None], (1 - wanted) * weight[..., None]
    pairs = -(yes.transpose(1, 2) @ on + no.transpose(1, 2) @ off)  # [B, person, slot]
    orders = torch.tensor(list(permutations(range(SLOTS))), device=logits.device)
    costs = torch.stack([pairs[:, range(SLOTS), order].mean(-1) for order in orders], -1)
    return pairs.diagonal(dim1=1, dim2=2).mean(-1), costs.amin(-1)


def error_rate(told: Flags, meant: Flags) -> tuple[float, float]:
    """Diarization error in frames and frames of speech: missed, false and confused speech in the best mapping of people.

    Collar 0, overlap scored (NIST RT-09); `[T, S]`, `[T, P]` with P <= S.
    """
    meant = np.pad(meant, ((0, 0), (0, told.shape[1] - meant.shape[1])))
    both = told.T.astype(np.float64) @ meant
    right = max(
        sum(both[slot, person] for person, slot in enumerate(order)) for order in permutations(range(len(both)))
    )
    spoken, heard = meant.sum(1), told.sum(1)
    return float(np.maximum(spoken, heard).sum() - right), float(spoken.sum())


class Diarize:
    """The task: batches are `(pcm [B, T], active [B, F, 4], teacher [B, 4, 256], chosen [B, N])`.

    Args:
        voices: `voices.npz` of the cache: names and embeddings of the training speakers, or None to do without a teacher.
        seconds: length of all sequences, of one or two people, to begin with: what tells voices apart is learned fastest from
            many short ones, with all of the teacher's weight; None: the lengths that a stream hears.
    """

    name = "diarize"

    def __init__(
        self, bank: SpeechBank, voices: Path | None, size: Size | None = None, seconds: float | None = None
    ) -> None:
        self.size, self.seconds = size or Size(), seconds
        self.mixer = MeetingMixer(bank, bank.train)
        self.teacher = np.zeros((0, WIDTH), np.float32)
        if voices is not None:
            known = np.load(voices)
            if list(known["names"]) != self.mixer.speakers.names:
                raise ValueError(f"{voices}: got other speakers than the bank has; run models.training.voices again")
            table = known["table"].reshape(-1, WIDTH)
            centred = table - table.mean(0)
            self.teacher = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        check = MeetingMixer(bank, bank.validation, speeds=(1.0,))
        self.fixed = [check.one(np.random.default_rng((7, k)), 48, 2 + k % 3) for k in range(9)]

    def __getstate__(self) -> dict[str, Any]:
        """For workers, which only draw batches."""
        return {**self.__dict__, "fixed": []}

    def network(self) -> Network:
        """Random weights, but for the first projection: `principal` directions of what it will hear."""
        network = Network(self.size)
        rng = np.random.default_rng(17)
        with torch.no_grad():
            heard = [network.features(torch.from_numpy(self.meeting(rng, 24.0).pcm)[None])[0] for _ in range(16)]
            network.model.model.audio_tower.embedder.projection.weight.copy_(
                principal(torch.cat(heard), self.size.hidden)
            )
        return network

    def batch(self, rng: np.random.Generator, size: int) -> tuple[NDArray[Any], ...]:
        """Short beginnings of meetings, long ones, and the ends of long ones after compression; as many seconds in each batch."""
        if self.seconds is not None:
            return self.short(rng, max(1, round(size * 24 / self.seconds)), round(self.seconds / 0.08))
        fifo, cache, kind = self.size.fifo, self.size.cache, rng.random()
        past, recent = 0, int(rng.integers(fifo // 3, fifo))
        if kind > 0.7:
            past, recent = int(rng.integers(cache, 3 * cache)), int(rng.integers(16, fifo + 14))
        elif kind > 0.4:
            recent = int(rng.integers(fifo, 2 * fifo))
        else:
            size *= 2
        meetings = [self.meeting(rng, (past + recent) * 0.08) for _ in range(size)]
        longest = recent + min(past, cache)
        active = np.zeros((size, (past + recent) * STACK, SLOTS), np.float32)
        teacher = np.zeros((size, SLOTS, WIDTH), np.float32)
        chosen = np.zeros((size, longest), np.int64)
        for row, meeting in enumerate(meetings):
            active[row, :, : meeting.active.shape[1]] = meeting.active
            if len(self.teacher):
                teacher[row, : len(meeting.people)] = self.teacher[list(meeting.people)]
            by_frame = active[row].reshape(-1, STACK, SLOTS).mean(1)
            kept = compressed(rng, by_frame[:past], self.size)
            chosen[row] = np.concatenate((kept, np.arange(past, past + recent)))
        return np.stack([m.pcm for m in meetings]), active, teacher, chosen

    def short(self, rng: np.random.Generator, size: int, frames: int) -> tuple[NDArray[Any], ...]:
        """As `batch`, of whole sequences of so many frames of 80 ms."""
        meetings = [self.meeting(rng, frames * 0.08, (0.4, 0.6)) for _ in range(size)]
        active = np.zeros((size, frames * STACK, SLOTS), np.float32)
        teacher = np.zeros((size, SLOTS, WIDTH), np.float32)
        for row, meeting in enumerate(meetings):
            active[row, :, : meeting.active.shape[1]] = meeting.active
            if len(self.teacher):
                teacher[row, : len(meeting.people)] = self.teacher[list(meeting.people)]
        return np.stack([m.pcm for m in meetings]), active, teacher, np.tile(np.arange(frames), (size, 1))

    def meeting(self, rng: np.random.Generator, seconds: float, shares: tuple[float, ...] = SPEAKING) -> Meeting:
        while True:
            found = self.mixer.one(rng, round(seconds, 2), 1 + int(rng.choice(len(shares), p=shares)))
            if found.people:
                return found

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], progress: float) -> Tensor:
        pcm, active, teacher, chosen = batch
        logits, voices = network(pcm, chosen)
        by_frame = torch.cat((active.unflatten(1, (-1, STACK)), active.new_zeros(len(pcm), 1, STACK, SLOTS)), 1)
        index = torch.where(chosen < 0, by_frame.shape[1] - 1, chosen)
        wanted = (
            by_frame.flatten(2).gather(1, index[..., None].expand(-1, -1, STACK * SLOTS)).unflatten(2, (STACK, SLOTS))
        )
        weight = torch.ones(chosen.shape, device=pcm.device)
        weight[:, -16:] = 4.0  # what a stream tells stands at the end
        sorted_loss, best = in_order(logits, wanted.flatten(1, 2), weight.repeat_interleave(STACK, 1))
        total = 0.5 * (sorted_loss + best).mean()
        if teacher.any():
            share = wanted.mean(2)  # [B, N, 4]
            alone = ((share > 0.5).sum(-1) == 1) & (share.sum(-1) < 1.2)
            meant = teacher.gather(1, share.argmax(-1)[..., None].expand(-1, -1, WIDTH))
            near = nn.functional.cosine_similarity(voices, meant, dim=-1)
            share_of_teacher = 0.3 if self.seconds is None else 1.0
            total = total + share_of_teacher * ((1 - near) * alone).sum() / alone.sum().clamp(min=1)
        return total

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Error rates in percent on meetings of people never heard, streamed at 1.04 s with carried state."""
        network.eval()
        meant = [m.active for m in self.fixed]
        told = streamed(network, np.stack([m.pcm for m in self.fixed]), "low_latency", device)
        rates = [error_rate(t > 0.5, m) for t, m in zip(told, meant, strict=True)]
        found = {"der": 100 * sum(e for e, _ in rates) / sum(s for _, s in rates)}
        for people in (2, 3, 4):
            own = [r for k, r in enumerate(rates) if 2 + k % 3 == people]
            found[f"der_{people}"] = 100 * sum(e for e, _ in own) / sum(s for _, s in own)
        anybody = [
            error_rate((t > 0.5).any(1, keepdims=True), np.asarray(m.any(1, keepdims=True)))
            for t, m in zip(told, meant, strict=True)
        ]
        found["speech_error"] = 100 * sum(e for e, _ in anybody) / sum(s for _, s in anybody)
        network.train()
        return found

    def export(self, network: nn.Module, folder: Path, notes: Mapping[str, str]) -> None:
        """As transformers writes it, in half precision, with its processor; one rename for the weights."""
        from transformers import Nemotron3DiarizationProcessor, NemotronAsrStreamingFeatureExtractor

        assert isinstance(network, Network)
        fresh = folder.with_name(f".{folder.name}.part")
        copy = Network(self.size)
        copy.load_state_dict(network.state_dict())
        copy.model.half().save_pretrained(fresh)
        Nemotron3DiarizationProcessor(
            NemotronAsrStreamingFeatureExtractor(feature_size=128), streaming_modes=CHUNKS
        ).save_pretrained(fresh)
        (fresh / "notes.txt").write_text("".join(f"{key}: {value}\n" for key, value in notes.items()))
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(fresh.iterdir()):
            os.replace(path, folder / path.name)
        fresh.rmdir()

    def restore(self, network: nn.Module, folder: Path) -> None:
        """Weights of an export; the map to the teacher's embeddings starts anew."""
        from transformers import Nemotron3DiarizationForAudioFrameClassification as Model

        assert isinstance(network, Network)
        if not (folder / "model.safetensors").is_file():
            raise FileNotFoundError(f"{folder}: got no model.safetensors there, expected a folder that this wrote")
        found = Model.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
        try:
            network.model.load_state_dict(found.state_dict())
        except RuntimeError as error:
            raise ValueError(f"{folder}: got weights of another network ({str(error)[:300]})") from None


@torch.no_grad()
def streamed(network: nn.Module, pcm: NDArray[np.float32], profile: str, device: str = "cpu") -> NDArray[np.float32]:
    """Probabilities `[B, T // 160, 4]` of meetings of equal length, step by step through the model's own cache."""
    assert isinstance(network, Network)
    chunk, right = CHUNKS[profile]
    features = network.features(torch.from_numpy(pcm).to(device))
    frames, cache, told = -(-features.shape[1] // STACK), None, []
    for start in range(0, frames, chunk):
        piece = features[:, start * STACK : (start + chunk + right) * STACK]
        ahead = min(right, max(0, -(-piece.shape[1] // STACK) - chunk))
        out = network.model(piece, speaker_cache=cache, num_lookahead_frames=ahead)
        cache = out.speaker_cache
        told.append(out.logits[:, : min(chunk, frames - start) * STACK].sigmoid().cpu())
    return np.asarray(torch.cat(told, 1)[:, : features.shape[1]].numpy(), np.float32)
