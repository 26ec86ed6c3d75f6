"""The average of exported models, in either format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("safetensors")

from checkpoints_demucs import tiny_repo
from test_training import TINY

from models import demucs_repo
from models.bsrnn import BandSplitRNN
from models.bsrnn_file import save
from models.bsrnn_separator import load
from models.training.average import average


def test_the_average_of_two_models_is_their_mean_and_loads(tmp_path: Path) -> None:
    one, two = BandSplitRNN(TINY), BandSplitRNN(TINY)
    for name, network in (("a", one), ("b", two)):
        save(network, tmp_path / name)
    average([tmp_path / "a", tmp_path / "b"], tmp_path / "mean")
    mean = load(tmp_path / "mean").network.state_dict()
    for key, value in one.state_dict().items():
        assert torch.allclose(mean[key], (value + two.state_dict()[key]) / 2, atol=2e-3), key  # halves on disk


def test_shares_may_lead_beyond_what_there_is_and_demucs_files_do_too(tmp_path: Path) -> None:
    """1.5 times one less half of the other: as far beyond the first as half the way to it."""
    folders = [tiny_repo(tmp_path / name) for name in ("a", "b")]
    before = demucs_repo.read(*demucs_repo.local(folders[0]).files[0])
    other = demucs_repo.read(*demucs_repo.local(folders[1]).files[0])
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.5)
    demucs_repo.publish(other, folders[1], "tiny", "CC0-1.0")
    average(folders, tmp_path / "mean", [3, -1])
    path = tmp_path / "mean" / "tiny.yaml"
    found = demucs_repo.read(*demucs_repo.local(path).files[0])
    for key, value in before.named_parameters():
        assert torch.allclose(found.get_parameter(key), 1.25 * value, rtol=2e-3, atol=1e-6), key
    assert "average: 3 -1" in path.read_text()


def test_what_has_no_mean_says_why(tmp_path: Path) -> None:
    for name, config in (("a", TINY), ("b", TINY), ("c", replace(TINY, hidden=20))):
        save(BandSplitRNN(config), tmp_path / name)
    with pytest.raises(ValueError, match=r"different configurations: .*a, .*c"):
        average([tmp_path / "a", tmp_path / "c"], tmp_path / "mean")
    for shares in ([1.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match=r"got shares 1.*expected 2, one a model, whose sum is not 0"):
            average([tmp_path / "a", tmp_path / "b"], tmp_path / "mean", shares)
    bag = tiny_repo(tmp_path / "bag", bag=True)
    with pytest.raises(ValueError, match="got a bag of 4 models, expected one"):
        average([bag, bag], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
