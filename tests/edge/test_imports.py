"""What a device process loads, and that ``edge`` stands on its own."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What trains, simulates, measures or plots has no place on a small board.
FORBIDDEN = frozenset(
    [
        *("compressai", "torchvision", "torch_geometric", "pandas", "matplotlib", "flwr", "ray", "fedsim"),
        *("pydantic", "pyarrow", "rich", "typer", "sklearn", "scipy", "torch._dynamo"),
    ]
)
RUN_A_DEVICE = """
import json, sys
from edge.device import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""
IMPORT_ALL_OF_EDGE = """
import importlib, json, pkgutil, sys
import edge
names = [module.name for module in pkgutil.walk_packages(edge.__path__, "edge.")]
for name in names:
    importlib.import_module(name)
print(json.dumps([names, sorted(sys.modules)]))
"""


def child(script, *arguments):
    """What a fresh interpreter prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", ["whole", "plain", "coded"])
def test_a_device_loads_nothing_that_only_training_or_simulation_needs(
    models, samples, start_server, tmp_path, model
):
    arguments = ["--model", models[model], "--samples", samples, "--limit", "2", "--out", tmp_path / "events"]
    if model != "whole":
        arguments += ["--server", start_server(models[model]).address]
    code, modules = child(RUN_A_DEVICE, *arguments)
    assert code == 0
    assert {"edge.session", "edge.bundle", "torch"} <= set(modules)
    assert FORBIDDEN & set(modules) == set()


def test_all_of_edge_can_be_imported_without_what_is_forbidden():
    names, modules = child(IMPORT_ALL_OF_EDGE)
    assert {"edge.server", "edge.testing", "edge.bottlenecks.compressai_bridge"} <= set(names)
    assert FORBIDDEN & set(modules) == set()


def imports_of(path):
    """Packages that a source file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def test_no_source_of_edge_imports_what_stands_above_it():
    sources = sorted((ROOT / "edge").rglob("*.py"))
    assert len(sources) > 20
    above = {"fedsim", "tests", "flwr", "ray", "pandas", "matplotlib", "pyarrow", "pydantic", "rich", "typer"}
    found = {str(path.relative_to(ROOT)): above & set(imports_of(path)) for path in sources}
    assert {path: packages for path, packages in found.items() if packages} == {}
