import sys
import types
from collections.abc import Iterator
from pathlib import Path

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
        (":Mine", LookupError, "cannot be imported"),
        (".a_plugin:Mine", LookupError, "cannot be imported"),
    ],
)
@pytest.mark.usefixtures("plugin")
def test_a_bad_import_path_says_what_is_wrong(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        registry.find(name)


def publish(folder: Path, name: str, value: str) -> None:
    """A distribution with one entry point, as an installer would lay it down."""
    info = folder / "published-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: published\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\n{name} = {value}\n")


def test_an_entry_point_is_found_and_listed(
    plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "published", f"{plugin}:Mine")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.find("published").__name__ == "Mine"
    assert registry.available()["published"] == f"{plugin}:Mine"


def test_an_entry_point_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "published", "absent_module:Mine")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError, match=r"absent_module:Mine.*cannot be imported"):
        registry.find("published")


@pytest.mark.usefixtures("plugin")
def test_our_own_names_cannot_be_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, "float32", "a_plugin:Mine")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.find("float32") is Float32
    assert registry.available()["float32"] == "edge.bottlenecks.raw_features:Float32"
    with pytest.raises(ValueError, match="'float32' is already"):
        registry.register("float32")(type("Float32", (Float32,), {"__module__": "elsewhere"}))


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="'float32' is already"):
        registry.register("float32")(type("Other", (Float32,), {}))


def test_an_option_that_a_bottleneck_does_not_take_is_named() -> None:
    with pytest.raises(TypeError, match=r"'jpeg'.*qualty"):
        registry.create("jpeg", (1, 8, 8), qualty=3)
