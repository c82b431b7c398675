"""Ends its process, and with it the microVM, at its fourth move."""

import itertools
import os

moves = itertools.count(1)


def move(_state):
    if next(moves) == 4:
        os._exit(3)
    return [-1, 0]
