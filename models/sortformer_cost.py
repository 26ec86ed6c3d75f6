"""What a diarizing session costs: processor time on one thread over time of sound, with all memories full.

    python -m models.sortformer_cost --model models/embedded/diarize
    python -m models.sortformer_cost --profile 1.04s 3,1,40,40,188 --sessions 1 4 16

A step's cost follows the frames that it hears, and those go up and down by the update period, so figures from the start of
a stream are too good. Here one session is brought to where its cache is full; its states, spread over one period, are
those of all the sessions that are then measured over a period. Without `--model`: random weights of the small size (hidden 192, 6
layers, 4 speakers, cache and FIFO 188, period 144), which cost the same. Parameters by number: chunk, right context, FIFO,
update period, cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch

from models.diarizer import STEP, Profile, Spec
from models.sortformer import SortformerDiarizer, State, load
from models.sortformer_keys import profiles
from models.sortformer_network import Config, Sortformer

SMALL = Config(hidden=192, inner=768, layers=6, heads=4, head=96, speakers=4)


def small() -> SortformerDiarizer:
    """Random weights that hear somebody now and then."""
    torch.manual_seed(0)
    made = profiles(Profile(9, 4, 188, 144, 188))
    return SortformerDiarizer(Sortformer(SMALL), made, Spec("small", SMALL.speakers, made))


def sound(samples: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Noise that comes and goes."""
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal(samples) * np.exp(rng.standard_normal(samples // 8000 + 1)).repeat(8000)[:samples]
    ).astype(np.float32)


def full(diarizer: SortformerDiarizer, profile: Profile, sessions: int) -> list[State]:
    """States of sessions that have been running for long, each elsewhere in its period."""
    state, chunk, cycle = diarizer.start(profile), profile.chunk_len * STEP, _cycle(profile)
    warm = profile.spkcache_len + profile.fifo_len + 2 * profile.spkcache_update_period
    _, (state,) = diarizer.run([sound(warm * STEP + profile.latency)], [state])
    passed = [state]
    for _ in range(cycle - 1):
        _, (state,) = diarizer.run([sound(chunk)], [state])
        passed.append(state)
    return [passed[n * cycle // sessions] for n in range(sessions)]


def _cycle(profile: Profile) -> int:
    """Steps from one move of frames to the cache to the next, about."""
    return max(1, round(profile.spkcache_update_period / profile.chunk_len))


def cost(diarizer: SortformerDiarizer, profile: Profile, states: Sequence[State]) -> tuple[float, float]:
    """Processor time over time of sound, of one session, and the longest call in s of processor time."""
    chunk, times, now = sound(profile.chunk_len * STEP), [], list(states)
    for _ in range(_cycle(profile)):
        begin = time.process_time()
        _, now = diarizer.run([chunk] * len(now), now)
        times.append(time.process_time() - begin)
    return sum(times) / len(times) / len(now) / (len(chunk) / diarizer.spec.rate), max(times)


def chosen(diarizer: SortformerDiarizer, text: str) -> Profile:
    """A profile by name or by numbers."""
    numbers = text.split(",")
    return diarizer.profile(Profile(*map(int, numbers)) if len(numbers) == 5 else text)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        prog="models.sortformer_cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder, .nemo file or hub name; default: random weights of the small size")
    parser.add_argument("--profile", nargs="+", default=["1.04s", "0.32s"])
    parser.add_argument("--sessions", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--together", type=int, help="frames in one pass, in place of the usual")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    diarizer = load(given.model) if given.model else small()
    diarizer.together = given.together or diarizer.together
    print("| profile | latency, s | sessions | RTF a session | sessions a core | longest call, ms | state, kB |")
    print("|---|---|---|---|---|---|---|")
    for text in given.profile:
        profile = chosen(diarizer, text)
        for sessions in given.sessions:
            rtf, longest = cost(diarizer, profile, full(diarizer, profile, sessions))
            told = (
                f"| {text} | {profile.latency_s:.2f} | {sessions} | {rtf:.3f} | {1 / rtf:.1f} | {1000 * longest:.0f} |"
            )
            print(f"{told} {diarizer.state_bytes(profile) / 1000:.0f} |", flush=True)


if __name__ == "__main__":
    main()
