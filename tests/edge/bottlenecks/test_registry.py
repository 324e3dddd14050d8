import sys
import types
from collections.abc import Iterator
from importlib.metadata import version
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
    with pytest.raises(
        LookupError, match=r"unknown bottleneck 'factorised'; known are .*factorized, float16"
    ):
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


def publish(folder: Path, name: str, value: str, package: str = "published", version: str = "1.0") -> None:
    """A distribution with one entry point, as an installer would lay it down."""
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\n{name} = {value}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder into which packages are installed."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    registry._entry_points.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("code", "says"),
    [("def (:", "SyntaxError: invalid syntax"), ("1 / 0", "ZeroDivisionError: division by zero")],
)
def test_a_module_that_breaks_when_imported_is_named(site: Path, code: str, says: str) -> None:
    (site / "a_broken_plugin.py").write_text(code)
    with pytest.raises(LookupError, match=f"'a_broken_plugin:Mine' cannot be imported: {says}"):
        registry.find("a_broken_plugin:Mine")


def test_an_entry_point_is_found_and_listed(plugin: str, site: Path) -> None:
    publish(site, "published", f"{plugin}:Mine")
    assert registry.find("published").__name__ == "Mine"
    assert registry.available()["published"] == f"{plugin}:Mine"
    assert registry.origin("published") == registry.Origin("published", f"{plugin}:Mine", "published", "1.0")
    assert str(registry.origin("published")) == f"published 1.0, {plugin}:Mine"


def test_an_entry_point_that_cannot_be_imported_is_named(site: Path) -> None:
    publish(site, "published", "absent_module:Mine")
    with pytest.raises(LookupError, match=r"absent_module:Mine.*cannot be imported"):
        registry.find("published")
    assert registry.available()["published"] == "absent_module:Mine"


def test_where_our_own_come_from() -> None:
    ours = registry.Origin("float32", "edge.bottlenecks.raw_features:Float32", "fedsim", version("fedsim"))
    assert registry.origin("float32") == ours


def test_a_class_by_its_path_comes_from_there(plugin: str) -> None:
    assert str(registry.origin(f"{plugin}:Mine")) == f"{plugin}:Mine"
    with pytest.raises(LookupError, match="unknown bottleneck 'nothing'"):
        registry.origin("nothing")


def test_a_plug_in_that_registers_what_its_package_publishes_is_listed_once(plugin: str, site: Path) -> None:
    publish(site, "mine", f"{plugin}:Mine")
    registry.register("mine")(registry.find("mine"))
    assert [str(known) for known in registry.origins() if known.name == "mine"] == [
        f"published 1.0, {plugin}:Mine"
    ]
    assert registry.find("mine").__name__ == "Mine"


def test_the_same_class_under_two_paths_is_one(plugin: str, site: Path) -> None:
    facade = types.ModuleType("a_facade")
    facade.Mine = sys.modules[plugin].Mine  # type: ignore[attr-defined]
    sys.modules["a_facade"] = facade
    try:
        publish(site, "mine", f"{plugin}:Mine", "first")
        publish(site, "mine", "a_facade:Mine", "second")
        assert registry.find("mine") is facade.Mine
    finally:
        del sys.modules["a_facade"]


def test_a_name_that_two_packages_publish_is_an_error_that_names_both(plugin: str, site: Path) -> None:
    publish(site, "mine", f"{plugin}:Mine", "first", "1.0")
    publish(site, "mine", "absent_module:Mine", "second", "2.1")
    said = r"'mine' is given twice: first 1\.0, a_plugin:Mine; and second 2\.1, absent_module:Mine; name the"
    with pytest.raises(registry.AmbiguousNameError, match=said):
        registry.find("mine")
    assert registry.find(f"{plugin}:Mine").__name__ == "Mine"
    assert registry.find("float32") is Float32
    assert [known.distribution for known in registry.origins() if known.name == "mine"] == ["first", "second"]


@pytest.mark.usefixtures("plugin")
def test_our_own_names_cannot_be_taken_over(site: Path) -> None:
    publish(site, "float32", "a_plugin:Mine")
    said = r"'float32' is given twice: fedsim .*raw_features:Float32; and published 1\.0, a_plugin:Mine"
    with pytest.raises(registry.AmbiguousNameError, match=said):
        registry.find("float32")
    assert registry.find("float16").__name__ == "Float16"
    with pytest.raises(ValueError, match="'float32' is already"):
        registry.register("float32")(type("Float32", (Float32,), {"__module__": "elsewhere"}))


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="'float32' is already"):
        registry.register("float32")(type("Other", (Float32,), {}))


def test_an_option_that_a_bottleneck_does_not_take_is_named() -> None:
    with pytest.raises(TypeError, match=r"'jpeg'.*qualty"):
        registry.create("jpeg", (1, 8, 8), qualty=3)
