"""How many cores one run of a model takes. A small recurrent step is slower on two threads than on one."""

from __future__ import annotations

import os


def use(threads: int) -> None:
    """Let torch use so many threads from the calling thread (0: all of the machine)."""
    import torch

    wanted = threads or os.cpu_count() or 1
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)
