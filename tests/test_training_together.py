"""Two processes that train one network take the step along the mean of their gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from models.training.__main__ import main, options, prepare  # noqa: E402
from models.training.workers import drawn  # noqa: E402


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command, but for what differs: a small network on eleven tones."""
    folder = tmp_path_factory.mktemp("data")
    for who in range(11):
        (folder / f"speaker{who}").mkdir()
        tone = 0.3 * np.sin(2 * np.pi * 250 * 1.3**who * np.arange(32000) / 16000)
        soundfile.write(folder / f"speaker{who}" / "0.wav", tone, 16000)
    common = ["speech", "--data", str(folder), "--cache", str(folder / "cache"), "--blocks", "1", "--device", "cpu"]
    return [*common, "--seconds", "0.5", "--batch", "2", "--checks", "1", "--minutes", "50"]


def test_a_step_is_along_the_mean_gradient_and_the_others_leave_with_the_first(
    words: list[str], tmp_path: Path
) -> None:
    main([*words, "--processes", "2", "--steps", "2", "--out", str(tmp_path / "two")])
    found = torch.load(tmp_path / "two" / "last.pt", weights_only=True)
    assert found["step"] == 2

    run = prepare(options([*words, "--out", str(tmp_path / "one")]))
    for step in range(2):
        run.optimizer.zero_grad()
        for rank in range(2):
            batch = drawn(run.task, 1_000_003 * rank, step, 2)
            loss = run.task.loss(run.network, tuple(map(torch.from_numpy, batch)), 0.0) / 2
            loss.backward()
        for group in run.optimizer.param_groups:
            group["lr"] = run.plan.rate * (step + 1) / run.plan.warmup
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), run.plan.clip)
        run.optimizer.step()
    begun = prepare(options([*words, "--out", str(tmp_path / "begun")])).network.state_dict()
    for name, value in run.network.state_dict().items():
        moved = (value - begun[name]).abs().max()
        torch.testing.assert_close(found["network"][name], value, atol=float(0.02 * moved + 1e-7), rtol=0)
    assert not torch.distributed.is_initialized()


def test_a_resumed_run_goes_on_together(words: list[str], tmp_path: Path) -> None:
    main([*words, "--steps", "1", "--out", str(tmp_path)])
    main([*words, "--processes", "2", "--steps", "2", "--resume", "--out", str(tmp_path)])
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 2
