"""The blocking half of the SDK is made from the other, and what is committed is what is made."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import emberbox_sdk
from support.figures import read_modules

FUNCTION_LINES_MAX, MODULE_LINES_MAX, METHODS_MAX = 60, 500, 20  # as in test_shape.py
SCRIPT = Path(__file__).resolve().parents[3] / "sdk" / "make_sync.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sync", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_committed_is_what_is_made() -> None:
    assert list(load().differences()) == []


def test_words_are_translated() -> None:
    text = "async with self.a() as b:\n    await AsyncThing.aclose()\n    async for c in b.aiter_bytes(): yield c\n"
    assert load().translate(text) == "with self.a() as b:\n    Thing.close()\n    for c in b.iter_bytes(): yield c\n"


def test_both_halves_have_the_same_methods() -> None:
    for name in ("Client", "Command", "Context", "Files", "Image", "Port", "Sandbox"):
        blocking, other = (getattr(emberbox_sdk, prefix + name) for prefix in ("", "Async"))
        public = [
            {member for member, _ in inspect.getmembers(kind, callable) if not member.startswith("_")} - {"close"}
            for kind in (blocking, other)
        ]
        assert public[0] == public[1] - {"aclose"}, name
        assert not any(map(inspect.iscoroutinefunction, vars(blocking).values())), name


def test_its_shape_has_the_bounds_of_the_server() -> None:
    modules = read_modules(SCRIPT.parent / "src" / "emberbox_sdk")
    large = {module.path for module in modules if module.lines > MODULE_LINES_MAX}
    for module in modules:
        large |= {f"{item.where} {item.name}" for item in module.functions if item.size > FUNCTION_LINES_MAX}
        large |= {f"{item.where} {item.name}" for item in module.classes if item.size > METHODS_MAX}
    assert large == set()
