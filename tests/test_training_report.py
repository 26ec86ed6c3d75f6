"""The page about a run."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from PIL import Image

from models.training.picture import draw
from models.training.report import figures, main, read_log, report


def run_of(folder: Path, checks: bool = True) -> Path:
    """A log as the loop writes it: 40 notes of training, four validations."""
    lines = [
        {"step": 20 * k, "minutes": k / 4, "loss": 3 - k / 20, "norm": 2.0, "rate": 1e-3 * (1 - k / 40)}
        for k in range(1, 41)
    ]
    if checks:
        lines += [{"step": 200 * k, "minutes": 2.5 * k, "gain <dB>": k - 1.25, "loss_too": 9.0} for k in range(1, 5)]
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [str(value) for key, value in attrs if key in ("src", "href")]


@pytest.mark.parametrize("checks", [True, False])
def test_the_page_stands_alone_and_has_curves_and_figures(checks: bool, tmp_path: Path) -> None:
    page = report(run_of(tmp_path / "my run", checks), []).read_text()
    tags = Tags()
    tags.feed(page)
    assert len(tags.sources) == 1
    assert all(source.startswith("data:image/png;base64,") for source in tags.sources)
    assert base64.b64decode(tags.sources[0].split(",")[1]) == (tmp_path / "my run" / "report.png").read_bytes()
    with Image.open(tmp_path / "my run" / "report.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
        assert picture.width > 600
    assert "<title>my run</title>" in page
    assert "800 steps in 10 minutes; loss 1.000." in page
    cells = re.findall(r"<td>([^<]*)", page)
    assert cells == (
        ["gain &lt;dB&gt;", "-0.25", "-0.25", "2.75", "2.75", "loss too", "9.00", "9.00", "9.00", "9.00"]
        if checks
        else []
    )


def test_lines_of_training_and_of_validation_are_told_apart(tmp_path: Path) -> None:
    trained, checks = read_log(run_of(tmp_path / "run"))
    assert (len(trained), len(checks)) == (40, 4)
    assert figures(checks) == ["gain <dB>", "loss_too"]


def test_bad_logs_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"log\.jsonl: no such log; expected the folder of a run"):
        main([str(tmp_path)])
    for text, told in (
        ('{"step": 1}x', r"log\.jsonl:1: got '\{\"step\": 1\}x', expected a JSON object of numbers"),
        ("[1]", r"expected a JSON object of numbers"),
        ('{"step": 1, "minutes": 0.1}', "the run has not begun"),
    ):
        (tmp_path / "log.jsonl").write_text(text + "\n")
        with pytest.raises(SystemExit, match=told):
            main([str(tmp_path)])


def test_a_picture_shows_sound_and_who_speaks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    active = np.zeros((200, 3), np.float32)
    active[:100, 1] = 1
    draw(tmp_path / "p.png", [("sound", rng.normal(size=(1, 32000))), ("who", active)], 16000, 8000)
    with Image.open(tmp_path / "p.png") as picture:
        pixels = np.asarray(picture.convert("L")).astype(float)
    half = pixels[pixels.shape[0] // 2 :]  # the lower panel: black to the left of the middle
    dark = (half < 60).sum(0)
    middle = pixels.shape[1] // 2
    assert dark[100 : middle - 30].mean() > 2 * dark[middle + 60 : -60].mean() + 5
