"""What the README shows works as printed."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from edge.bottlenecks import find
from edge.testing import check_bottleneck

ROOT = Path(__file__).parents[1]


def test_the_bottleneck_of_the_readme_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 40
    module = types.ModuleType("mymodule")
    monkeypatch.setitem(sys.modules, "mymodule", module)
    monkeypatch.setattr("edge.bottlenecks.registry._registered", {})
    exec(compile(code, "README.md", "exec"), vars(module))
    torch.manual_seed(0)
    report = check_bottleneck(lambda: find("mymodule:Mine")((3, 8, 8)), torch.rand(4, 3, 8, 8))
    assert report.samples == 4


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
