"""A plan as JSON, for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedsim.errors import OutputError
from fedsim.measure.files import replacing
from fedsim.planning.answer import Answer, Obstacle
from fedsim.planning.plan import Plan
from fedsim.planning.setting import QUANTITIES, Setting

__all__ = ["SCHEMA", "as_json", "write"]

#: Version of the layout; rises when a key changes its meaning, comes or goes.
SCHEMA = 1


def write(found: Plan, path: Path) -> None:
    """Write a plan as JSON, whole or not at all. docs/planning.md says what every key means.

    Raises:
        OutputError: it cannot be written there.
    """
    text = json.dumps(as_json(found), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"--json {path}: cannot be written: {error.strerror or error}") from error


def as_json(found: Plan) -> dict[str, Any]:
    """All of it as plain JSON values. Units are bytes, milliseconds and joules."""
    answer = found.answer
    return {
        "schema": SCHEMA,
        "scenario": found.name,
        "goal": {
            "bounds": {name: answer.goal.bounds[name] for name in QUANTITIES if name in answer.goal.bounds},
            "minimise": answer.goal.minimise,
            "objectives": list(answer.goal.objectives),
        },
        "met": answer.recommended is not None,
        "recommended": _name(answer.recommended),
        "surest": _name(answer.surest),
        "nearest": _name(answer.nearest),
        "obstacles": [_obstacle(one) for one in answer.obstacles],
        "settings": [_setting(one, answer) for one in answer.settings],
        "notes": list(found.notes),
    }


def _setting(one: Setting, answer: Answer) -> dict[str, Any]:
    candidate = one.candidate
    spec = asdict(candidate.spec)
    described = ("network", "network_arguments", "cut", "entry", "bottleneck", "bottleneck_arguments", "rate")
    return {
        "name": one.name,
        **{key: spec[key] for key in described},
        "level": candidate.level,
        "accuracy": one.accuracy,
        "accuracy_interval": list(one.accuracy_interval),
        "quantities": {name: quantity.read(one) for name, quantity in QUANTITIES.items()},
        "failed": one.costs.failed,
        "energy_j": dict(one.costs.energy),
        "local": candidate.local,
        "front": one in answer.front,
        "sending_front": one in answer.sending_front,
        "meets": one in answer.meeting,
        "shortfall": answer.goal.shortfall(one) if _is_known(one, answer) else None,
        "trained": [
            {"seed": t.seed, "run": str(t.run), "bundle": str(t.bundle), "accuracy": t.accuracy}
            for t in candidate.trained
        ],
    }


def _is_known(one: Setting, answer: Answer) -> bool:
    return all(QUANTITIES[name].read(one) is not None for name in answer.goal.bounds)


def _obstacle(one: Obstacle) -> dict[str, Any]:
    read = QUANTITIES[one.quantity].read
    return {
        "quantity": one.quantity,
        "binds": one.binds,
        "among_rest": None
        if one.among_rest is None
        else {"name": one.among_rest.name, "value": read(one.among_rest)},
        "alone": {"name": one.alone.name, "value": read(one.alone)},
    }


def _name(setting: Setting | None) -> str | None:
    return None if setting is None else setting.name
