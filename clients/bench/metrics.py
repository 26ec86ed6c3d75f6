"""What `GET /metrics` said at two moments, and so what happened between them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Scrape = Mapping[str, Mapping[Labels, float]]


def parse(text: str) -> Scrape:
    """Values by sample name (`..._bucket`, `..._sum`, `..._total`) and labels; none of a metric that never had a label."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        found[f"{family.name}_total" if family.type == "counter" else family.name] = {}
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def value(scrape: Scrape, name: str) -> float | None:
    """The sum over all labels; None if the server has no such metric."""
    return sum(scrape[name].values()) if name in scrape else None


def by(scrape: Scrape, name: str, label: str) -> dict[str, float]:
    """The values of one label, each summed over all others."""
    sums: dict[str, float] = {}
    for labels, number in scrape.get(name, {}).items():
        key = dict(labels).get(label, "")
        sums[key] = sums.get(key, 0.0) + number
    return sums


def increase(before: Scrape, after: Scrape, name: str) -> float | None:
    """Of a counter that both have, or that came into being between them."""
    now = value(after, name)
    return None if now is None else now - (value(before, name) or 0.0)


def mean(before: Scrape, after: Scrape, name: str) -> float | None:
    """Of what a histogram observed between them; None if nothing."""
    count, sums = increase(before, after, f"{name}_count"), increase(before, after, f"{name}_sum")
    return sums / count if count and sums is not None else None


def quantile(before: Scrape, after: Scrape, name: str, share: float) -> float | None:
    """Of what a histogram observed between them, linear within a bucket as Prometheus does; None of nothing.

    In the last bucket, which has no end, its beginning.
    """
    was, now = by(before, f"{name}_bucket", "le"), by(after, f"{name}_bucket", "le")
    edges = sorted((float(edge), count - was.get(edge, 0.0)) for edge, count in now.items())
    if not edges or not (rank := share * edges[-1][1]):
        return None
    low = below = 0.0
    for edge, count in edges:
        if count >= rank:
            return low if math.isinf(edge) else low + (edge - low) * (rank - below) / (count - below)
        low, below = edge, count
    return None
