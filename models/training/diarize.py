"""The streaming Sortformer of transformers at a small size, trained on simulated meetings.

Sources: T. Park et al., "Sortformer", 2024 (arXiv:2409.06656): outputs are people in the order of their first words, asked
for by a loss in that order together with one in the best order; I. Medennikov et al., "Streaming Sortformer", 2025
(arXiv:2507.18446): what a stream hears at each step is [frames kept of everybody | recent frames | new frames].

That is what is trained on here, in one pass for all steps: most sequences are the beginning of a meeting; in 40 % all but
the last seconds have gone through the same compression as in a stream, by the probabilities that a good model would
have given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
from models.training.sortformer import CHUNKS, SLOTS, STACK, Network, Size, log_mels, principal, stacked, streamed
from models.training.voices import WIDTH

F = nn.functional
SPEAKING: Sequence[float] = (0.08, 0.30, 0.31, 0.31)  # shares of meetings of one to four people
BEGINNING: Sequence[float] = (0.4, 0.6)  # and of sequences of seconds
NAMED, SHARP = 400, 20.0  # frames a batch whose person is to be found among all, and the sharpness of that
LOOK = 0.2  # weight of `astray`
# Weight of what earlier layers would tell (Y. Yu et al., "Auxiliary loss of transformer with residual connection for end-to-end
# speaker diarization", 2022, arXiv:2110.07116).
EARLY = 0.5
NOTES = {"licence": "CC-BY-4.0", "source": "models/training/diarize.py"}


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


def masked(rng: np.random.Generator, mels: NDArray[np.float32]) -> None:
    """In half of all sequences `[T, 128]`, two bands of up to 16 give nothing but their mean.

    D. Park et al., "SpecAugment", 2019 (arXiv:1904.08779); here for all of the sequence, so that who speaks has to be told by
    the other bands.
    """
    if rng.random() < 0.5:
        for width in rng.integers(1, 17, 2):
            first = int(rng.integers(mels.shape[1] - width + 1))
            mels[:, first : first + width] = mels[:, first : first + width].mean()


def in_order(logits: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy in the order given, and in the best order of people, each `[B]`; `[B, T, 4]`, weight `[B, T]`."""
    weight = weight / weight.sum(1, keepdim=True)
    on, off = F.logsigmoid(logits), F.logsigmoid(-logits)
    yes, no = wanted * weight[..., None], (1 - wanted) * weight[..., None]
    pairs = -(yes.transpose(1, 2) @ on + no.transpose(1, 2) @ off)  # [B, person, slot]
    orders = torch.tensor(list(permutations(range(SLOTS))), device=logits.device)
    costs = torch.stack([pairs[:, range(SLOTS), order].mean(-1) for order in orders], -1)
    return pairs.diagonal(dim1=1, dim2=2).mean(-1), costs.amin(-1)


def astray(looks: Tensor, share: Tensor) -> Tensor:
    """How far heads look from the frames of whoever speaks: mean divergence in nats over frames with speech.

    `looks [B, H, N, N]` are logarithms of attention, `share [B, N, 4]` of speech. To look evenly at all frames of the same
    person is what an ideal clustering would do; asked for, it is learned long before the outputs need it (Y.-R. Jeoung et
    al., "Improving transformer-based end-to-end speaker diarization by assigning auxiliary losses to attention heads", 2023,
    arXiv:2303.01192).
    """
    same = share @ share.transpose(1, 2)
    wanted = same / same.sum(-1, keepdim=True).clamp(min=1e-6)
    apart = torch.xlogy(wanted, wanted).sum(-1) - (wanted[:, None] * looks).sum(-1).mean(1)  # [B, N]
    speech = (share.sum(-1) > 0.1).float()
    return (apart * speech).sum() / speech.sum().clamp(min=1)


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
    """The task: batches are `(stacked log mels [B, N, 1024], silent [B, N], spoken [B, N * 8, 4], people [B, 4])`.

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
        self.mixer = MeetingMixer(bank, bank.train, shifted=True, lines=True)
        self.teacher = np.zeros((0, WIDTH), np.float32)
        if voices is not None:
            known = np.load(voices)
            table, persons = known["table"].reshape(-1, WIDTH), len(self.mixer.speakers.names) * self.mixer.kinds
            if list(known["names"]) != self.mixer.speakers.names or len(table) != persons:
                raise ValueError(
                    f"{voices}: got other speakers than the bank has ({len(table)} voices, expected {persons}); "
                    "run models.training.voices again"
                )
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
            heard = [log_mels(torch.from_numpy(self.meeting(rng, 24.0).pcm)[None])[0] for _ in range(16)]
            network.model.model.audio_tower.embedder.projection.weight.copy_(
                principal(torch.cat(heard), self.size.hidden)
            )
        return network

    def batch(self, rng: np.random.Generator, size: int) -> tuple[NDArray[Any], ...]:
        """Short beginnings of meetings, long ones, and the ends of long ones after compression; as many seconds in each batch."""
        fifo, cache, kind = self.size.fifo, self.size.cache, rng.random()
        past, recent, shares = 0, int(rng.integers(fifo // 3, fifo)), SPEAKING
        if self.seconds is not None or kind > 0.9:
            seconds = self.seconds or 4.0
            recent, shares, size = round(seconds / 0.08), BEGINNING, max(1, round(size * 24 / seconds))
        elif kind > 0.5:
            past, recent = int(rng.integers(cache, 3 * cache)), int(rng.integers(16, fifo + 14))
        elif kind > 0.25:
            recent = int(rng.integers(fifo, 2 * fifo))
        else:
            size *= 2
        return tuple(
            np.stack(rows) for rows in zip(*(self.row(rng, past, recent, shares) for _ in range(size)), strict=True)
        )

    def row(
        self, rng: np.random.Generator, past: int, recent: int, shares: Sequence[float]
    ) -> tuple[NDArray[Any], ...]:
        """One meeting of so many frames of 80 ms, of whose `past` only what a stream would have kept is left."""
        meeting = self.meeting(rng, (past + recent) * 0.08, shares)
        active = np.zeros((past + recent, STACK, SLOTS), bool)
        active.reshape(-1, SLOTS)[:, : meeting.active.shape[1]] = meeting.active
        people = np.full(SLOTS, -1)
        people[: len(meeting.people)] = meeting.people
        kept = compressed(rng, active[:past].mean(1, dtype=np.float32), self.size)
        chosen = np.concatenate((kept, np.arange(past, past + recent)))
        silent = chosen < 0
        mels = log_mels(torch.from_numpy(meeting.pcm)[None])
        masked(rng, mels[0].numpy())
        heard = stacked(mels)[0].half().numpy()
        return heard[chosen], silent, (active[chosen] & ~silent[:, None, None]).reshape(-1, SLOTS), people

    def meeting(self, rng: np.random.Generator, seconds: float, shares: Sequence[float] = SPEAKING) -> Meeting:
        while True:
            found = self.mixer.one(rng, round(seconds, 2), 1 + int(rng.choice(len(shares), p=shares)))
            if found.people:
                return found

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], progress: float) -> Tensor:
        mels, silent, spoken, people = batch
        logits, voices, looks, early = network(mels.float(), silent)
        wanted = spoken.float()
        weight = torch.ones(silent.shape, device=mels.device)
        weight[:, -16:] = 4.0  # what a stream tells stands at the end
        sorted_loss, best = in_order(logits, wanted, weight.repeat_interleave(STACK, 1))
        total = 0.5 * (sorted_loss + best).mean()
        share = wanted.unflatten(1, (-1, STACK)).mean(2)  # [B, N, 4]
        for look in looks:
            total = total + LOOK * astray(look, share) / len(looks)
        for guess in early:
            total = total + EARLY * 0.5 * sum(one.mean() for one in in_order(guess, share, weight)) / len(early)
        if len(self.teacher):
            alone = ((share > 0.5).sum(-1) == 1) & (share.sum(-1) < 1.2)
            who = people.gather(1, share.argmax(-1))[alone]
            total = total + (0.3 if self.seconds is None else 1.0) * self.unlike(voices[alone], who)
        return total

    def unlike(self, voices: Tensor, who: Tensor) -> Tensor:
        """How far voices `[M, 256]` are from the teacher's of `who [M]`, and how hard these are to tell from all others.

        That is a cosine distance, and the cross-entropy among all persons, of some of the frames.
        """
        table = torch.from_numpy(self.teacher).to(voices.device)
        voices = F.normalize(voices, dim=-1)
        far = 1 - (voices * table[who]).sum(-1)
        some = torch.linspace(0, max(0, len(who) - 1), min(len(who), NAMED)).long().unique()
        named = F.cross_entropy(SHARP * voices[some] @ table.T, who[some], reduction="sum") / max(1, len(some))
        return far.sum() / max(1, len(far)) + 0.2 * named

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
        (fresh / "notes.txt").write_text("".join(f"{key}: {value}\n" for key, value in {**NOTES, **notes}.items()))
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(fresh.iterdir()):
            os.replace(path, folder / path.name)
        fresh.rmdir()

    def restore(self, network: nn.Module, folder: Path) -> None:
        """Weights of an export, also of one with fewer layers; the map to the teacher's embeddings starts anew."""
        from transformers import Nemotron3DiarizationForAudioFrameClassification as Model

        assert isinstance(network, Network)
        if not (folder / "model.safetensors").is_file():
            raise FileNotFoundError(f"{folder}: got no model.safetensors there, expected a folder that this wrote")
        found = Model.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
        state, own = found.state_dict(), network.model.state_dict()
        new = {
            k: v for k, v in own.items() if k not in state and int(k.partition(".layers.")[2].split(".")[0] or -1) >= 0
        }
        for key, value in new.items():  # layers more than it has add nothing yet
            state[key] = torch.zeros_like(value) if ".o_proj." in key or ".fc2." in key else value
        try:
            network.model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{folder}: got weights of another network ({str(error)[:300]})") from None
