"""Runs the examples of a document below one of its headings, one after the other: example.py FILE HEADING."""

import re
import sys
from pathlib import Path

EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

text = Path(sys.argv[1]).read_text()
section = text.partition(f"\n## {sys.argv[2]}\n")[2].partition("\n## ")[0]
found = EXAMPLE.findall(section)
assert found, "there is no example"
names = {"__name__": "__main__"}
for example in found:
    exec(compile(example, sys.argv[1], "exec"), names)  # noqa: S102 - that they run is what is tested
