"""Thinks about its third move for ever."""

import itertools

moves = itertools.count(1)


def move(_state):
    number = next(moves)
    while number == 3:
        pass
    return [1, 0]
