"""Counts seconds: something to leave running in a terminal."""

import itertools
import time

for number in itertools.count(1):
    print(number, flush=True)
    time.sleep(1)
