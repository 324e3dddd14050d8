import io

import pytest
from rich.console import Console

from fedsim.progress import Display


@pytest.mark.parametrize(
    ("terminal", "quiet", "every_s", "lines"),
    [(False, False, 0.0, 3), (False, False, 60.0, 0), (False, True, 0.0, 0)],
)
def test_a_line_now_and_then_where_the_output_is_no_terminal(
    terminal: bool, quiet: bool, every_s: float, lines: int
) -> None:
    said = io.StringIO()
    display = Display(Console(file=said, force_terminal=terminal), quiet=quiet, every_s=every_s)
    with display.live(), display.task("training", 2) as task:
        task.advance({"loss": 0.5})
        task.advance({"loss": 0.25, "bits": 3})
    shown = [line.rstrip() for line in said.getvalue().splitlines() if line.strip()]
    expected = [
        "training 1/2  loss 0.5",
        "training 2/2  loss 0.25  bits 3",
        "training 2/2  loss 0.25  bits 3",
    ]
    assert shown == expected[:lines]


def test_bars_where_it_is_one() -> None:
    said = io.StringIO()
    display = Display(Console(file=said, force_terminal=True, width=100), every_s=0.0)
    with display.live(), display.task("training", 2) as task:
        task.advance({"loss": 0.5})
    assert "2/2" in said.getvalue()
    assert "training 1/2  loss" not in said.getvalue()
