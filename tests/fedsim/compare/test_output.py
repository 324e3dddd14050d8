import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedsim.cli import app
from fedsim.compare import Comparison, as_json, compare, print_comparison
from fedsim.compare.pictures import comparison_figure

from .folders import many, sample, write_run

METHODS = {"jpeg-50": 1.5, "factorized [beta=0.1]": 1.0}
PAGE = (Path(__file__).parents[3] / "docs" / "prediction.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    simulated = [e for name, s in METHODS.items() for e in many(rng, 120, name, s, provenance="modelled")]
    measured = [
        e for name, s in METHODS.items() for e in many(rng, 60, name, s, provenance="measured", noise=0.1)
    ]
    simulated += sample(0, method="lost", provenance="modelled")
    measured += sample(0, method="lost", outcome="failed")
    return write_run(folder / "simulated", simulated), write_run(folder / "measured", measured)


@pytest.fixture(scope="module")
def comparison(folders: tuple[Path, Path]) -> Comparison:
    return compare(*folders)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_tables_are_whole_at_any_width(comparison: Comparison, width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_comparison(comparison, console)
    console.file.close()
    text = console.export_text()
    titles = [line for line in text.splitlines() if line.startswith("factorized [beta=0.1]: ")]
    assert titles
    total = comparison.methods[1].timings["total"]
    assert f"{total.simulated.mean:.1f} / {total.measured.mean:.1f}" in text
    assert "60 of 60" in text
    assert "…" not in text
    assert "lost: no sample ended well in the measured run, so there is no latency" in text


def test_slight_errors_are_grey_and_those_within_noise_green(tmp_path: Path) -> None:
    def run(encode: float, send: float) -> Path:
        events = [
            e
            for i in range(30)
            for e in sample(i, ms={"encode": encode, "send": send + i % 3, "total": 200.0 + i % 3})
        ]
        return write_run(tmp_path / f"{encode}", events)

    console = Console(width=200, force_terminal=True, color_system="standard", file=open("/dev/null", "w"))  # noqa: SIM115
    with console.capture() as shown:
        print_comparison(compare(run(0.1, 150.0), run(0.2, 100.0)), console)
    console.file.close()
    lines = {line.split()[0]: line for line in shown.get().splitlines() if line.strip()}
    assert "\x1b[2m-50.0" in lines["encode"]
    assert re.search(r"(?<!m)\+49\.5", lines["send"])
    assert "\x1b[32m+0.0" in lines["total"]


def test_json_is_plain_and_says_what_the_page_says(comparison: Comparison) -> None:
    document = as_json(comparison, ["a miss"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    documented = set(re.findall(r"^\| `([\w`, .]+?)` \|", PAGE.partition("## The JSON")[2], re.MULTILINE))
    named = {name for names in documented for name in names.split("`, `")}
    assert named == set(document) | {f"methods.{key}" for key in document["methods"][0]}
    assert document["methods"][2]["latency_ms"] == {}


def test_the_picture_has_a_row_for_each_method_with_latencies(comparison: Comparison) -> None:
    figure = comparison_figure(comparison)
    assert len(figure.axes) == 4
    for (left, right), one in zip((figure.axes[:2], figure.axes[2:]), comparison.methods, strict=False):
        assert left.get_title(loc="left") == one.method
        for line, values in zip(left.lines, reversed(one.totals_ms), strict=True):
            assert list(line.get_xdata()[1:]) == list(values)
            assert line.get_ydata()[-1] == 1
        widths = [patch.get_width() for patch in right.patches]
        timings = one.timings.values()
        assert widths == [t.simulated.mean for t in timings] + [t.measured.mean for t in timings]
        assert [label.get_text() for label in right.get_yticklabels()] == list(one.timings)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["measured", "predicted"]


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    figures, picture = tmp_path / "new" / "figures.json", tmp_path / "picture.png"
    code, out, err = invoke(*folders, "--json", figures, "--plot", picture)
    assert (code, err) == (0, "")
    assert "prediction against measurement: total latency" in out
    assert json.loads(figures.read_text())["missed"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")

    code, out, err = invoke(*folders, "--tolerance", "mean=0%", "--quiet", "--json", figures)
    assert (code, out) == (1, "")
    assert "jpeg-50: mean of the total: off by " in err
    assert "lost: mean of the total: not known in both runs" in err
    missed = json.loads(figures.read_text())["missed"]
    assert err == "fedsim: not within the tolerance:\n" + "\n".join(missed) + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "picture.gif"], "--plot picture.gif: the name has to end in .png, .pdf, .svg"),
        (["--tolerance", "5%"], "--tolerance: '5%' is no limit"),
        (["--json", "/dev/null/figures.json"], "--json /dev/null/figures.json: cannot be written: "),
        (["--plot", "/dev/null/figures.svg"], "--plot /dev/null/figures.svg: cannot be written: "),
    ],
)
def test_wrong_arguments(folders: tuple[Path, Path], arguments: list[str], message: str) -> None:
    code, _, err = invoke(*folders, *arguments)
    assert code == 2
    assert err.startswith(f"fedsim: {message}")
