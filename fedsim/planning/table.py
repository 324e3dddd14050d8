"""A plan for a terminal: the front as a table, the recommendation with its reasons, or what binds."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from fedsim.measure.blocks import NOT_APPLICABLE, Block, print_tables, spread
from fedsim.planning.answer import Answer, Obstacle
from fedsim.planning.goal import Goal
from fedsim.planning.plan import Plan
from fedsim.planning.setting import QUANTITIES, Setting

__all__ = ["explanation", "front_tables", "print_plan"]

_UNKNOWN = "unknown"
_COSTS = ("joules", "latency-p50", "latency-p95", "bytes", "wire-bytes")
_OF_THE_LINK = ("bytes", "wire-bytes")


def print_plan(found: Plan, console: Console) -> None:
    """Print the front, the recommendation or why there is none, and the notes. Nothing is cut off."""
    print_tables(front_tables(found, console.width), console)
    for line in explanation(found.answer):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"Note: {note}.", markup=False, highlight=False, soft_wrap=True)


def front_tables(found: Plan, width: int) -> list[Table]:
    """One row for each setting of the fronts, lowest first in what the goal minimises.

    Columns that do not fit the width become tables of their own.
    """
    rows = found.answer.shown
    specs = [one.candidate.spec for one in rows]
    levels = [one.candidate.level for one in rows]
    where = [("cut", [spec.cut for spec in specs])]
    where.append(("rate", [NOT_APPLICABLE if spec.rate is None else f"{spec.rate:g}" for spec in specs]))
    if any(level is not None for level in levels):
        where.append(("level", [NOT_APPLICABLE if level is None else str(level) for level in levels]))
    figures = [("accuracy, %\n(95 %)", [_accuracy(one) for one in rows])]
    figures.append(("energy", [_figure(one, "joules") for one in rows]))
    figures.append(("latency, ms\np50 / p95", [_latency(one) for one in rows]))
    figures.append(("payload", [_figure(one, "bytes") for one in rows]))
    figures.append(("on the\nwire", [_figure(one, "wire-bytes") for one in rows]))
    chosen = found.answer.recommended or found.answer.nearest
    verdict = [_verdict(one, found.answer) for one in rows]
    last = [("goal", verdict)]
    if len(found.answer.front) < len(rows):
        last.insert(0, ("on the\nfront", ["yes" if one in found.answer.front else "no" for one in rows]))
    blocks = [
        Block("the front", where),
        *(Block("what a sample costs", [column]) for column in figures),
        Block("the goal", last),
    ]
    names = [f"> {one.name}" if one is chosen else f"  {one.name}" for one in rows]
    return spread(found.name, "  setting", names, blocks, width)


def explanation(found: Answer) -> Iterator[str]:
    """The recommendation, why it is this one, and how to run it; or what stands in the way of the goal."""
    many, meeting = len(found.settings), len(found.meeting)
    yield f"Goal: {found.goal}."
    of_them = "which are all that there are" if many == 1 else f"of {many} settings"
    front = f"On the front: {len(found.front)}, {of_them}"
    if found.sending_front != found.front:
        front += f"; {len(found.sending_front)} on that of the settings that send"
    yield f"{front}. Meeting the goal: {meeting}."
    yield ""
    if found.recommended is None:
        yield from _shortage(found)
        return
    chosen = found.recommended
    yield f"Recommended: {chosen.name}, {_what(chosen)}."
    yield f"  {_figures(chosen)}"
    yield from _reasons(found, chosen)
    if chosen.candidate.local:
        yield from _beside_the_device(found)
    yield from _use(chosen)


def _reasons(found: Answer, chosen: Setting) -> Iterator[str]:
    least = found.goal.minimise or "error"
    quantity = QUANTITIES[least]
    if len(found.meeting) == 1:
        yield "Why: it is the only setting that meets the goal."
    else:
        yield f"Why: of those that meet the goal, it has the {quantity.extreme}{_next(found, least)}."
    room = [_room(chosen, name, found.goal) for name in found.goal.objectives if name in found.goal.bounds]
    if room:
        yield f"  {'; '.join(room)}."


def _next(found: Answer, least: str) -> str:
    """How much worse the next setting of the front is, in what decides."""
    chosen, read = found.meeting[0], QUANTITIES[least].read
    others = [one for one in found.meeting[1:] if one in found.front]
    if not others:
        return ""
    value, best = read(others[0]), read(chosen)
    shown = "unknown" if value is None else QUANTITIES[least].show(value)
    more = ""
    if least == "error" and value is not None and best is not None:
        more = f", {100 * (value - best):.2f} points less"
    elif value is not None and best:
        more = f", {100 * (value / best - 1):.3g} % more"
    return f"; next on the front is {others[0].name} with {shown}{more}"


def _room(setting: Setting, name: str, goal: Goal) -> str:
    value, most = QUANTITIES[name].read(setting), goal.bounds[name]
    if value is None:
        return f"{QUANTITIES[name].title} unknown"
    if name == "error":
        return f"accuracy {100 * (most - value):.2f} points above what is asked for"
    share = 100 * value / most
    return f"{QUANTITIES[name].title} {share:.3g} % of what is allowed"


def _beside_the_device(found: Answer) -> Iterator[str]:
    """What sending would cost, where the answer is not to send."""
    one = found.sending
    if one is None:
        yield "Of the settings that send, none meets the goal."
        return
    yield f"Of the settings that send, the first is {one.name}, {_what(one)}."
    yield f"  {_figures(one)}"


def _use(chosen: Setting) -> Iterator[str]:
    """How to run it, and what to ship."""
    one = chosen.candidate.typical
    folder = shlex.quote(str(one.bundle))
    level = "" if chosen.candidate.level is None else f" --level {chosen.candidate.level}"
    seeds = len(chosen.candidate.trained)
    which = f", of seed {one.seed}, the nearest to the mean of {seeds} seeds" if seeds > 1 else ""
    yield f"Model: {one.bundle} ({100 * one.accuracy:.2f} % there{which})."
    if chosen.candidate.local:
        yield f"  on a device: python -m edge.device --model {folder} --samples FILE --out EVENTS.jsonl"
        return
    yield f"  on the server: python -m edge.server --model {folder} --listen HOST:PORT"
    yield (
        f"  on a device: python -m edge.device --server HOST:PORT --model {folder}{level} "
        "--samples FILE --out EVENTS.jsonl"
    )


def _shortage(found: Answer) -> Iterator[str]:
    yield "No setting meets the goal."
    for one in found.obstacles:
        yield f"  {_obstacle(one, found.goal)}."
    if len(found.obstacles) > 1:
        binding = [QUANTITIES[one.quantity].title for one in found.obstacles if one.binds]
        if binding:
            yield f"  Without the bound on {' or on '.join(binding)} the goal can be met."
        else:
            yield "  Giving up one bound is not enough."
    if found.nearest is not None:
        yield f"Nearest: {found.nearest.name}, {_what(found.nearest)}."
        yield f"  {_figures(found.nearest)}"
        missed = [name for name in found.goal.bounds if not found.goal.kept(found.nearest, name)]
        yield f"  It misses: {', '.join(QUANTITIES[name].bound(found.goal.bounds[name]) for name in missed)}."


def _obstacle(one: Obstacle, goal: Goal) -> str:
    """How near one can come to a bound, alone and with the others kept."""
    bound = QUANTITIES[one.quantity].bound(goal.bounds[one.quantity])
    alone = f"{one.alone.name} with {_shown(one.alone, one.quantity)}"
    unreachable = f"no setting keeps to it, the nearest is {alone}"
    if len(goal.bounds) == 1:
        return f"{bound}: {unreachable}"
    if one.among_rest is None:
        kept = f"{alone} keeps to it, but no setting meets all the rest"
        return f"{bound}: {kept if one.reachable else unreachable}"
    nearest = f"{one.among_rest.name} with {_shown(one.among_rest, one.quantity)}"
    text = f"{bound} binds: of the settings that meet the rest, the nearest is {nearest}"
    if one.reachable:
        return text
    given_up = "no setting keeps to it" if one.alone is one.among_rest else unreachable
    return f"{text}; whatever else is given up, {given_up}"


def _what(setting: Setting) -> str:
    spec = setting.candidate.spec
    if setting.candidate.local:
        return "the whole network on the device"
    words = [f"cut at {spec.cut}", f"bottleneck {spec.bottleneck}"]
    if spec.rate is not None:
        words.append(f"rate {spec.rate:g}")
    if setting.candidate.level is not None:
        words.append(f"level {setting.candidate.level}")
    return ", ".join(words)


def _figures(setting: Setting) -> str:
    low, high = setting.accuracy_interval
    over = len(setting.candidate.trained)
    seeds = f"over {over} seeds" if over > 1 else "of the test set"
    parts = [f"accuracy {_shown(setting, 'error')} (95 % {seeds}: {100 * low:.2f} to {100 * high:.2f})"]
    local = setting.candidate.local
    names = [name for name in _COSTS if not (local and name in _OF_THE_LINK)]
    parts += [f"{QUANTITIES[name].title} {_shown(setting, name)}" for name in names]
    return ", ".join(parts)


def _shown(setting: Setting, name: str) -> str:
    value = QUANTITIES[name].read(setting)
    return _UNKNOWN if value is None else QUANTITIES[name].show(value)


def _figure(setting: Setting, name: str) -> str:
    value = QUANTITIES[name].read(setting)
    if name in _OF_THE_LINK and setting.candidate.local:
        return NOT_APPLICABLE
    return _UNKNOWN if value is None else QUANTITIES[name].show(value)


def _accuracy(setting: Setting) -> str:
    low, high = setting.accuracy_interval
    return f"{100 * setting.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"  # noqa: RUF001


def _latency(setting: Setting) -> str:
    parts = [_figure(setting, name).removesuffix(" ms") for name in ("latency-p50", "latency-p95")]
    return " / ".join(parts)


def _verdict(setting: Setting, found: Answer) -> str:
    missed = [QUANTITIES[name].title for name in found.goal.bounds if not found.goal.kept(setting, name)]
    return f"misses {', '.join(missed)}" if missed else "met"
