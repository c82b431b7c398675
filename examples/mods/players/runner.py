"""Runs along the rows, one after another, and counts its steps in memory."""

import itertools

steps = itertools.count(1)


def move(state):
    return [0, 1] if next(steps) % state["size"] == 0 else [1, 0]
