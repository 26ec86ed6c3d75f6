"""The dashboard and the alerts ask for figures that a running server has, with labels that they have, in PromQL that parses."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import promql_parser
import pytest
import rtc
import serving
import yaml
from faults import END
from prometheus_client.parser import text_string_to_metric_families

DEPLOY = Path(__file__).parent.parent / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "rivulet.json").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
PROMETHEUS_OWN = {"up"}
OF_THE_SCRAPE = {"job", "instance"}
PARTS = ("expr", "lhs", "rhs", "args", "param", "vector_selector")


def queries() -> list[str]:
    """Every expression, with Grafana's variables filled in."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    found += [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    variables = (item["definition"] for item in DASHBOARD["templating"]["list"] if item["type"] == "query")
    found += [re.fullmatch(r"label_values\((\w+), \w+\)", text)[1] for text in variables]  # type: ignore[index]
    return [
        query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$model", ".*") for query in found
    ]


def selectors(node: Any) -> Iterator[Any]:
    """The selectors of an expression's tree."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in PARTS:
        part = getattr(node, name, None)
        for child in part if isinstance(part, list) else [part]:
            if child is not None:
                yield from selectors(child)


def asked(query: str) -> dict[str, set[str]]:
    """Figures by name, and the labels by which they are chosen or summed."""
    tree = promql_parser.parse(query)
    names: dict[str, set[str]] = {}
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")}
    for selector in selectors(tree):
        labels = {matcher.name for matcher in selector.matchers.matchers}
        names.setdefault(selector.name, set()).update(labels | grouped)
    return names


async def used(host: str) -> None:
    """A session, one that is resumed, and one that is refused; and a second for what is counted by the second."""
    _, (ready, *_), _ = await serving.converse(host, serving.start("toy-split"), [bytes(6400), END])
    resume = json.dumps({"type": "resume", "token": ready["resume"], "received": 0})
    await serving.converse(host, resume, [bytes(6400), END])
    await serving.converse(host, serving.start("nope"), [])
    await called(host)
    await asyncio.sleep(1.5)


async def called(host: str) -> None:
    """A session over WebRTC, and a peer that is answered and does not come."""
    sounds = [rtc.Sound(np.zeros((2, 9600), np.float32)) for _ in range(2)]
    sounds[0].go.set()
    peer, absent = (rtc.Client(host, sound, 2) for sound in sounds)
    try:
        await peer.post({"model": "toy-split"})
        await peer.text("stats")
        body = {"sdp": await absent.offer(), "type": "offer", "start": {"model": "toy-split"}}
        assert (await absent.http.post("/v1/rtc", json=body)).status_code == 201
        await asyncio.sleep(1.5)
    finally:
        await peer.close()
        await absent.close()


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """What a server has: every figure by the name of its samples, with its labels."""
    with serving.running(serving.toy_registry(), rtc_connect_s=1.0) as host:
        asyncio.run(used(host))
        text = httpx.get(f"http://{host}/metrics").text
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_what_is_asked_is_told(query: str, told: dict[str, set[str]]) -> None:
    for name, labels in asked(query).items():
        assert name in told or name in PROMETHEUS_OWN, f"{name} is not in /metrics"
        assert labels <= told.get(name, set()) | OF_THE_SCRAPE, f"{name} has the labels {told.get(name)}"


def test_what_is_told_is_shown(told: dict[str, set[str]]) -> None:
    """Every family is somewhere on the dashboard or in an alert."""
    shown = {name for query in queries() for name in asked(query)}
    stems = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in shown}
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in told}
    assert {family for family in families if family.startswith("rivulet_")} <= stems


def test_every_panel_has_its_own_place_and_says_what_it_shows() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = {(at["x"] + x, at["y"] + y) for at in places for x in range(at["w"]) for y in range(at["h"])}
    assert len(cells) == sum(at["w"] * at["h"] for at in places)
    for panel in panels:
        assert panel["type"] == "row" or (panel["description"] and panel["datasource"]["uid"] == "${datasource}")


def test_every_alert_has_a_severity_and_says_what_to_do() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 4
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "warning")
        assert {"summary", "description"} <= set(rule["annotations"])


def test_prometheus_reads_these_alerts() -> None:
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert [DEPLOY / "prometheus" / name for name in settings["rule_files"]] == [DEPLOY / "prometheus" / "alerts.yml"]
    (job,) = settings["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("rivulet", "/metrics")
