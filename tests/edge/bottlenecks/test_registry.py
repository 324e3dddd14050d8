import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from edge.bottlenecks import registry
from edge.bottlenecks.raw_features import Float32


@pytest.fixture
def plugin() -> Iterator[str]:
    module = types.ModuleType("a_plugin")
    module.Mine = type("Mine", (Float32,), {"__module__": "a_plugin"})  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    sys.modules["a_plugin"] = module
    yield "a_plugin"
    del sys.modules["a_plugin"]


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(LookupError, match=r"unknown bottleneck 'factorised'; known are factorized, float16"):
        registry.find("factorised")


def test_a_class_by_import_path(plugin: str) -> None:
    assert registry.create(f"{plugin}:Mine", (2, 2)).input_shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("a_plugin:Absent", LookupError, "cannot be imported"),
        ("no_such_module:Mine", LookupError, "cannot be imported"),
        ("a_plugin:number", TypeError, "not a subclass"),
    ],
)
@pytest.mark.usefixtures("plugin")
def test_a_bad_import_path_says_what_is_wrong(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        registry.find(name)


def test_an_entry_point_is_found_and_listed(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("published", f"{plugin}:Mine", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert registry.find("published").__name__ == "Mine"
    assert registry.available()["published"] == f"{plugin}:Mine"


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="'float32' is already"):
        registry.register("float32")(type("Other", (Float32,), {}))


def test_an_option_that_a_bottleneck_does_not_take_is_named() -> None:
    with pytest.raises(TypeError, match=r"'jpeg'.*qualty"):
        registry.create("jpeg", (1, 8, 8), qualty=3)
