"""A plan from folders to answer, with its notes, as table, JSON and picture."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from rich.console import Console

from fedsim.errors import OutputError
from fedsim.planning import Candidate, Costs, Goal, Plan, PlanningError, answer_to, asked, make_plan
from fedsim.planning.document import as_json, write
from fedsim.planning.plot import plan_figure, plot_plan, shown_cost
from fedsim.planning.table import explanation, print_plan
from fedsim.scenario import Scenario

from .folders import LARGE, LOCAL, SCENARIO, SMALL, make_run, make_sweep
from .settings import choice, setting

PAGE = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")


def scenario(**changes: object) -> Scenario:
    return Scenario.model_validate(SCENARIO | {"engine": "virtual"} | changes)


def costly(_: Scenario, candidates: Sequence[Candidate]) -> list[Costs]:
    """Each byte takes a millijoule and a millisecond; what sends nothing takes much of the device."""
    found = []
    for one in candidates:
        size = one.payload_bytes or 0.0
        found.append(
            Costs(5, 5, 0, 0.5)
            if one.local
            else Costs(size, 2 * size, size + 100, size / 1e3, {"send": size / 1e3})
        )
    return found


def planned(goal: Goal, settings: Sequence[object] | None = None) -> Plan:
    return Plan("tiny", answer_to(settings or choice(), goal), ("be careful",))  # type: ignore[arg-type]


def test_a_plan_from_folders(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "sweep", [LOCAL, SMALL, LARGE], [1, 2])
    found = make_plan(scenario(), [folder], asked(accuracy=0.85), costly)
    assert found.answer.recommended is not None
    assert found.answer.recommended.name == "integer-4"
    assert [one.name for one in found.answer.front] == ["integer-4", "float16"]
    assert any("reaches below it" in note for note in found.notes)
    assert not any("chosen by its accuracy on the test set" in note for note in found.notes)
    assert not any("one seed" in note for note in found.notes)
    kept = make_plan(scenario(), [folder], asked(accuracy=0.85), costly, without=["integer-4", "local"])
    assert [one.name for one in kept.answer.settings] == ["float16"]


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (
            ["intger-4"],
            "--without intger-4: unknown setting; did you mean 'integer-4'? known are local, integer-4",
        ),
        (["local", "integer-4"], "--without local, integer-4: leaves nothing to choose from"),
    ],
)
def test_what_cannot_be_left_out(tmp_path: Path, without: list[str], said: str) -> None:
    run = make_run(tmp_path / "run", [LOCAL, SMALL])
    with pytest.raises(PlanningError) as caught:
        make_plan(scenario(), [run], asked(), costly, without=without)
    assert str(caught.value) == said


def test_a_choice_by_the_test_set_is_told_to_be_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [SMALL, LARGE], changes={"data": {"name": "digits"}})
    found = make_plan(scenario(), [run], asked(), costly)
    (note,) = [note for note in found.notes if "test set" in note]
    assert note.startswith("float16 was chosen by its accuracy on the test set, which is optimistic")
    assert "data.validation" in note
    assert any("trained from one seed" in note for note in found.notes)


def test_results_on_other_data_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [SMALL])
    other = scenario(data={"name": "fashion-mnist"})
    with pytest.raises(PlanningError, match=r"run was tested on 'digits', and tiny is about 'fashion-mnist'"):
        make_plan(other, [run], asked(), costly)


def test_what_the_fleet_does_to_the_accuracy_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [SMALL])

    def failing(given: Scenario, candidates: Sequence[Candidate]) -> list[Costs]:
        return [replace(one, failed=0.25, notes=("a battery is empty",)) for one in costly(given, candidates)]

    found = make_plan(scenario(fleet=[{"count": 2, "erasure": 0.1}]), [run], asked(), failing)
    assert found.answer.settings[0].accuracy == 0.9 * 0.75
    assert "a battery is empty" in found.notes
    assert any(note.startswith("25.00% of the samples of integer-4 have no answer") for note in found.notes)
    assert any(
        "with a probability of 0 that a packet is lost, and on this fleet it is 0.1" in n for n in found.notes
    )


def test_unverified_numbers_of_the_fleet_are_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [SMALL])
    found = make_plan(scenario(fleet=[{"count": 2, "link": "lte-2012"}]), [run], asked(), costly)
    assert any(note.startswith("link lte-2012: ") and "not verified" in note for note in found.notes)


def test_what_is_not_known_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [SMALL, LARGE])

    def half(given: Scenario, candidates: Sequence[Candidate]) -> list[Costs]:
        first, *rest = costly(given, candidates)
        return [replace(first, joules=None), *rest]

    found = make_plan(scenario(), [run], asked(joules=1), half)
    assert any("known of integer-4: not on the front" in note for note in found.notes)
    assert [one.name for one in found.answer.front] == ["float16"]


def printed(found: Plan, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_plan(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_what_is_printed_of_a_goal_that_is_met() -> None:
    text = printed(planned(asked(accuracy=0.9, payload_bytes=100)))
    lines = text.splitlines()
    assert "Goal: accuracy at least 90 %, payload at most 100 B, lowest energy." in lines
    assert (
        "On the front: 5, of 6 settings; 4 on that of the settings that send. Meeting the goal: 4." in lines
    )
    assert "Recommended: middle, cut at stage2, bottleneck float16." in lines
    assert (
        "Why: of those that meet the goal, it has the lowest energy; "
        "next on the front is large with 20.0 mJ, 150 % more." in lines
    )
    assert "  accuracy 2.00 points above what is asked for; payload 30 % of what is allowed." in lines
    folder = Path("runs") / "run-1" / "models" / "one"
    assert f"  on the server: python -m edge.server --model {folder} --listen HOST:PORT" in lines
    assert "Note: be careful." in lines
    assert any(line.startswith("> middle") for line in lines)


def test_the_level_is_part_of_the_command() -> None:
    text = "\n".join(explanation(answer_to([setting("a", level=2)], asked())))
    assert ", level 2." in text
    assert " --level 2 --samples" in text


def test_where_nothing_is_to_be_sent_it_says_so_and_what_sending_costs() -> None:
    lines = printed(planned(asked(accuracy=0.9, minimise="latency"))).splitlines()
    assert "Recommended: local, the whole network on the device." in lines
    assert "Of the settings that send, the first is middle, cut at stage2, bottleneck float16." in lines
    (command,) = [line for line in lines if "edge." in line]
    assert "edge.device" in command
    assert "--server" not in command


def test_what_is_printed_of_a_goal_that_cannot_be_met() -> None:
    lines = printed(planned(asked(accuracy=0.94, joules=0.01))).splitlines()
    start = lines.index("No setting meets the goal.")
    rest = "of the settings that meet the rest, the nearest"
    assert lines[start + 1 : start + 5] == [
        f"  accuracy at least 94 % binds: {rest} is middle with 92.00 %.",
        f"  energy at most 10.0 mJ binds: {rest} is large with 20.0 mJ.",
        "  Without the bound on accuracy or on energy the goal can be met.",
        "Nearest: middle, cut at stage2, bottleneck float16.",
    ]
    assert "  It misses: accuracy at least 94 %." in lines
    assert "Recommended" not in "".join(lines)


@pytest.mark.parametrize(
    ("goal", "line"),
    [
        (
            asked(accuracy=0.99),
            "accuracy at least 99 %: no setting keeps to it, the nearest is raw with 96.00 %",
        ),
        (
            asked(accuracy=0.99, payload_bytes=100),
            "accuracy at least 99 % binds: of the settings that meet the rest, "
            "the nearest is local with 96.00 %; whatever else is given up, "
            "no setting keeps to it, the nearest is raw with 96.00 %",
        ),
        (
            asked(accuracy=0.99, payload_bytes=100),
            "payload at most 100 B: local with 0 B keeps to it, but no setting meets all the rest",
        ),
        (asked(accuracy=0.99, joules=0.001), "Giving up one bound is not enough"),
    ],
)
def test_how_near_one_can_come(goal: Goal, line: str) -> None:
    assert f"  {line}." in printed(planned(goal)).splitlines()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_is_cut_off(width: int) -> None:
    text = printed(planned(asked(accuracy=0.9)), width)
    assert "…" not in text
    for one in ("small", "middle", "large", "raw"):
        assert re.search(rf"^[> ] {one} ", text, re.MULTILINE)


@pytest.mark.parametrize("goal", [asked(accuracy=0.9, payload_bytes=100), asked(accuracy=0.99, joules=0.001)])
def test_the_json_has_all_and_the_page_explains_every_key(goal: Goal, tmp_path: Path) -> None:
    found = planned(goal)
    write(found, tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content == as_json(found)
    assert [one["name"] for one in content["settings"]] == [one.name for one in found.answer.settings]
    assert content["met"] == (found.answer.recommended is not None) == (content["recommended"] is not None)
    parts = [content, content["goal"], *content["obstacles"][:1], content["settings"][0]]
    parts += [content["settings"][0]["quantities"], content["settings"][0]["trained"][0]]
    assert [key for part in parts for key in part if f"`{key}`" not in PAGE] == []


def test_the_page_names_every_option() -> None:
    for quantity in as_json(planned(asked()))["settings"][0]["quantities"]:
        assert f"`{quantity}`" in PAGE
    for option in ("--from", "--minimise", "--latency-of", "--without", "--json", "--plot", "--set"):
        assert f"`{option}" in PAGE


def test_a_file_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"--json .*: cannot be written"):
        write(planned(asked()), tmp_path / "file" / "plan.json")
    with pytest.raises(OutputError, match=r"--plot .*: cannot be written"):
        plot_plan(planned(asked()), tmp_path / "file" / "plan.png")


def test_the_picture_marks_what_is_recommended_and_what_the_goal_allows(tmp_path: Path) -> None:
    found = planned(asked(accuracy=0.9, joules=0.05))
    figure = plan_figure(found)
    (axes,) = figure.axes
    (ring,) = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    chosen = found.answer.recommended
    assert chosen is not None
    assert shown_cost(found.answer) == "latency-p95"
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == (
        [chosen.costs.latency_p95_ms],
        [chosen.accuracy],
    )
    (goal,) = axes.patches
    assert goal.get_y() == pytest.approx(0.9)
    assert to_hex(goal.get_facecolor()) == "#009e73"
    assert {text.get_text() for text in axes.texts} >= {chosen.name}
    plot_plan(found, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_region_ends_at_the_bound_of_the_cost() -> None:
    figure = plan_figure(planned(asked(accuracy=0.9, joules=0.05, minimise="joules")))
    (region,) = figure.axes[0].patches
    assert region.get_x() + region.get_width() == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("goal", "named"),
    [
        (asked(), "joules"),
        (asked(payload_bytes=50), "bytes"),
        (asked(accuracy=0.9, minimise="wire-bytes"), "wire-bytes"),
        (asked(accuracy=0.999), "joules"),
    ],
)
def test_the_cost_of_the_picture_is_what_the_goal_is_about(goal: Goal, named: str) -> None:
    found = planned(goal)
    assert shown_cost(found.answer) == named


def test_a_picture_of_one_setting_that_sends_nothing() -> None:
    figure = plan_figure(planned(asked(minimise="bytes"), [setting("local", local=True)]))
    (line,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert line.get_label() == "local: 0 B"
