"""How a training run went, on one page: `python -m models.training.report runs/speech [--model FOLDER]`.

Writes `report.png` (curves over the minutes of training: loss, learning rate, validation figures) and `report.html`, which
holds the same picture, the last figures and, with the exported model, what it does to held-out sound. The page needs no
other file.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

Line = dict[str, float]

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222 }}
img {{ max-width: 100%; display: block; margin: 1em 0 }}
table {{ border-collapse: collapse }}
td, th {{ padding: .15em .9em .15em 0; text-align: right; font-variant-numeric: tabular-nums }}
td:first-child, th:first-child {{ text-align: left }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
{parts}
</html>
"""


def read_log(folder: Path) -> tuple[list[Line], list[Line]]:
    """Lines of training (they have a learning rate) and of validation, by minutes.

    Raises:
        FileNotFoundError: no log.jsonl in the folder.
        ValueError: a line is not JSON, or there is none of training, naming the file.
    """
    path = folder / "log.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such log; expected the folder of a run")
    lines: list[Line] = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        try:
            lines.append({key: float(value) for key, value in json.loads(text).items()})
        except (ValueError, TypeError, AttributeError):
            raise ValueError(f"{path}:{number}: got {text[:60]!r}, expected a JSON object of numbers") from None
    lines.sort(key=lambda line: line["minutes"])
    trained = [line for line in lines if "rate" in line]
    if not trained:
        raise ValueError(f"{path}: got {len(lines)} lines and none with a learning rate; the run has not begun")
    return trained, [line for line in lines if "rate" not in line]


def figures(checks: Sequence[Line]) -> list[str]:
    """Names of the validation figures, the headline first."""
    return list(dict.fromkeys(key for line in checks for key in line if key not in ("step", "minutes")))


def draw(trained: Sequence[Line], checks: Sequence[Line], path: Path) -> None:
    """Loss, rate and gradient on the left, the headline and the other figures on the right, over minutes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = figures(checks)
    panels = [("training loss", trained, ["loss"]), ("learning rate", trained, ["rate"])]
    panels += [("norm of the gradient", trained, ["norm"])] if "norm" in trained[-1] else []
    right = [(names[0], checks, names[:1]), ("other figures", checks, names[1:])] if names else []
    right = [panel for panel in right if panel[2]]
    rows = max(len(panels), len(right))
    figure, axes = pyplot.subplots(rows, 2 if right else 1, figsize=(9, 2.1 * rows), squeeze=False)
    for column, side in enumerate((panels, right) if right else (panels,)):
        for row in range(rows):
            axis = axes[row, column]
            if row >= len(side):
                axis.set_axis_off()
                continue
            title, lines, keys = side[row]
            for key in keys:
                points = [(line["minutes"], line[key]) for line in lines if key in line]
                mark = "o" if lines is checks else None
                axis.plot(*zip(*points, strict=True), marker=mark, markersize=3, linewidth=1.2, label=key)
            axis.set_title(title.replace("_", " "), fontsize=9, loc="left")
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.25)
            if title.startswith("norm"):
                axis.set_yscale("log")
                axis.minorticks_off()
            if len(keys) > 1:
                axis.legend(fontsize=7, frameon=False, ncols=2)
        axes[len(side) - 1, column].set_xlabel("minutes of training", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def image(path: Path, told: str) -> str:
    """A PNG as an element of the page."""
    coded = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(told)}" src="data:image/png;base64,{coded}">'


def table(checks: Sequence[Line]) -> str:
    """First, least, most and last of each figure: which extreme is the good one depends on it."""
    rows = ["<tr><th>figure<th>first<th>least<th>most<th>last</tr>"]
    for name in figures(checks):
        found = [line[name] for line in checks if name in line]
        cells = "".join(f"<td>{value:.2f}" for value in (found[0], min(found), max(found), found[-1]))
        rows.append(f"<tr><td>{html.escape(name.replace('_', ' '))}{cells}</tr>")
    return f"<h2>On what it never trains on</h2><table>{''.join(rows)}</table>" if len(rows) > 1 else ""


def report(folder: Path, pictures: Sequence[tuple[str, Path]] = ()) -> Path:
    """Write `report.png` and `report.html` of a run; the page's path.

    Raises:
        FileNotFoundError, ValueError: see `read_log`.
    """
    trained, checks = read_log(folder)
    draw(trained, checks, folder / "report.png")
    last = trained[-1]
    parts = [image(folder / "report.png", "curves of the training run"), table(checks)]
    parts += [f"<h2>{html.escape(title)}</h2>{image(path, title)}" for title, path in pictures]
    summary = f"{last['step']:,.0f} steps in {last['minutes']:.0f} minutes; loss {last['loss']:.3f}."
    page = folder / "report.html"
    title = html.escape(folder.resolve().name)
    page.write_text(PAGE.format(title=title, summary=summary, parts="\n".join(parts)))
    return page


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.report", description=__doc__)
    parser.add_argument("run", type=Path, help="folder with log.jsonl")
    parser.add_argument("--model", type=Path, help="its export, to be shown at work")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    chosen = parser.parse_args(words)
    try:
        pictures = []
        if chosen.model:
            from models.training.picture import picture

            pictures = [("On held-out sound", picture(chosen.model, chosen.data, chosen.cache, chosen.run))]
        print(report(chosen.run, pictures))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
