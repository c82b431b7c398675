"""Makes the blocking half of the SDK from the other: `emberbox_sdk/_sync` from `emberbox_sdk/_async`.

    python sdk/make_sync.py           write it
    python sdk/make_sync.py --check   say what would change, and fail if anything would

A word by word translation (`await` and `async` go, `AsyncSandbox` becomes `Sandbox`), so both halves do the same in the
same order. `platform.py` is the one module that is written twice. A test holds what is committed against this.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "src" / "emberbox_sdk"
BY_HAND = {"platform.py", "__init__.py"}
HEADER = "# Made by sdk/make_sync.py from _async/{name}; do not edit.\n"

RULES = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bemberbox_sdk\._async\b", "emberbox_sdk._sync"),
    (r"\bhttpx2\.AsyncBaseTransport\b", "httpx2.BaseTransport"),
    (r"\bcontextlib\.asynccontextmanager\b", "contextlib.contextmanager"),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\ba(close|read)\(", r"\1("),
    (r"\baiter_(bytes|lines)\b", r"iter_\1"),
    (r"\benter_async_context\b", "enter_context"),
    (r"\bCoroutine\[Any, Any, (\w+)\]", r"\1"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
]


def translate(text: str) -> str:
    """Return a module of `_async` as one of `_sync`."""
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return text


def render(source: Path) -> str:
    """Return what the blocking module is to be, formatted as everything here is."""
    text = HEADER.format(name=source.name) + translate(source.read_text())
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        place = ["--stdin-filename", str(PACKAGE / "_sync" / source.name), "-"]
        ruff = [sys.executable, "-m", "ruff", *command, *place]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


def differences() -> dict[Path, str]:
    """Return the modules that are not what they are to be, with what they are to be."""
    wanted = {
        PACKAGE / "_sync" / source.name: render(source)
        for source in sorted((PACKAGE / "_async").glob("*.py"))
        if source.name not in BY_HAND
    }
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text}


def main() -> int:
    """Write or check; return the exit code."""
    found = differences()
    check = "--check" in sys.argv[1:]
    for path, text in found.items():
        print(f"{'differs' if check else 'written'}: {path.relative_to(PACKAGE)}")
        if not check:
            path.write_text(text)
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
