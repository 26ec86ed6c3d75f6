"""The best one-to-one assignment of columns to rows of a square matrix of scores.

Up to four rows every permutation is looked at. Beyond that, shortest augmenting paths with potentials (the Hungarian method:
H. W. Kuhn, 1955; in the O(n^3) form of R. Jonker and A. Volgenant, 1987). The second best is the best of those that avoid
one pair of the first (K. G. Murty, 1968).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
SMALL = 4


def best(scores: Scores) -> tuple[int, ...]:
    """The order with the largest sum of `scores[row, order[row]]`; of equals, up to `SMALL` rows, the first in lexical order.

    Shape: `[S, S]`, finite.
    """
    if len(scores) > SMALL:
        return hungarian(scores)
    orders = _orders(len(scores))
    sums = scores[np.arange(len(scores)), orders].sum(1)
    return tuple(int(column) for column in orders[int(sums.argmax())])


def margin(scores: Scores, order: Sequence[int], columns: Sequence[int]) -> float:
    """By how much an order beats the best of those that have one of these columns elsewhere; 0 where there is no other."""
    if len(scores) < 2 or not len(columns):
        return 0.0
    rows = [order.index(column) for column in columns]
    barred = [_without(scores, row, column) for row, column in zip(rows, columns, strict=True)]
    return total(scores, order) - max(total(one, best(one)) for one in barred)


def total(scores: Scores, order: Sequence[int]) -> float:
    """The sum that an order has."""
    return float(scores[np.arange(len(scores)), list(order)].sum())


def hungarian(scores: Scores) -> tuple[int, ...]:
    """The best order for any number of rows, one row after another.

    Each row is added by the shortest path, in reduced costs, from it to a free column; potentials keep all reduced costs
    non-negative. Row and column 0 below are sentinels.
    """
    count = len(scores)
    cost = np.pad(-scores, ((1, 0), (1, 0)))
    of_row, of_column = np.zeros(count + 1), np.zeros(count + 1)
    taken = np.zeros(count + 1, int)  # the row of each column
    for row in range(1, count + 1):
        taken[0], column = row, 0
        reach, back, done = np.full(count + 1, np.inf), np.zeros(count + 1, int), np.zeros(count + 1, bool)
        while taken[column]:
            done[column] = True
            at = taken[column]
            reduced = cost[at] - of_row[at] - of_column
            nearer = ~done & (reduced < reach)
            nearer[0] = False
            reach[nearer], back[nearer] = reduced[nearer], column
            following = int(np.where(done, np.inf, reach)[1:].argmin()) + 1
            step = reach[following]
            of_row[taken[done]] += step
            of_column[done] -= step
            reach[~done] -= step
            column = following
        while column:
            taken[column], column = taken[back[column]], back[column]
    order = np.empty(count, int)
    order[taken[1:] - 1] = np.arange(count)
    return tuple(int(column) for column in order)


def _without(scores: Scores, row: int, column: int) -> Scores:
    """The same, but for one pair that no best order would have."""
    barred = scores.copy()
    barred[row, column] = scores.min() - len(scores) * (1 + float(np.ptp(scores)))
    return barred


@cache
def _orders(count: int) -> NDArray[np.int64]:
    return np.array(list(permutations(range(count))))
