from pathlib import Path

import pytest

from fedsim.compare import Comparison, ComparisonError, Tolerance, compare
from fedsim.compare.tolerance import ToleranceError

from .folders import sample, write_run


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Predicted: 4 % too long, one payload of ten one byte too large, one prediction of ten another."""
    simulated = [e for i in range(10) for e in sample(i, ms={"send": 6.0, "total": 10.4}, prediction=i % 10)]
    measured = [
        e
        for i in range(10)
        for e in sample(
            i,
            ms={"send": 6.0, "total": 10.0},
            prediction=i % 9,
            sent={"payload_bytes": 100 + i - (i == 5)},
        )
    ]
    local = sample(0, method="local", ms={"total": 1.0}, outcome="local")
    return compare(
        write_run(tmp_path / "s", [*simulated, *local]), write_run(tmp_path / "m", [*measured, *local])
    )


@pytest.mark.parametrize(
    ("words", "missed"),
    [
        ([], []),
        (["mean=4.1%,p50=5%", "p95=5 %"], []),
        (["mean=3.9%"], ["png: mean of the total: off by +4 %, allowed is 3.9 %"]),
        (["bytes=1%", "predictions=10.1%"], []),
        (["bytes=0%"], ["png: payload of one sample: off by +0.962 %, allowed is 0 %"]),
        (["predictions=9%"], ["png: predictions: off by +10 %, allowed is 9 %"]),
        (
            ["joules=5%"],
            [f"{method}: energy of a sample: not known in both runs" for method in ("png", "local")],
        ),
    ],
)
def test_limits(comparison: Comparison, words: list[str], missed: list[str]) -> None:
    tolerance = Tolerance.parse(words)
    assert tolerance.misses(comparison) == missed
    if missed:
        with pytest.raises(ToleranceError, match="not within the tolerance:\npng: "):
            tolerance.check(comparison)
    else:
        tolerance.check(comparison)


@pytest.mark.parametrize(
    "word", ["", "mean", "mean=5", "mean=%", "median=5%", "p95=-1%", "p95=nan%", "p95=inf%"]
)
def test_what_is_no_limit_is_refused(word: str) -> None:
    with pytest.raises(
        ComparisonError, match=r"--tolerance: '.*' is no limit; expected such as mean=5%, of mean,"
    ):
        Tolerance.parse([word])
    with pytest.raises(ComparisonError, match="p95 is given twice"):
        Tolerance.parse(["p95=5%,p95=6%"])
