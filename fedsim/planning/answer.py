"""From settings and a goal to an answer: the front, what is recommended, or what stands in the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsim.planning.front import on_front
from fedsim.planning.goal import Goal
from fedsim.planning.setting import QUANTITIES, Setting

__all__ = ["Answer", "Obstacle", "answer_to"]


@dataclass(frozen=True)
class Obstacle:
    """A bound of a goal that cannot be met, and how near to it one can come.

    Args:
        quantity: that is bounded.
        among_rest: of the settings that keep to all other bounds, the one that is lowest in it; None where
            there is none.
        alone: of all settings, the one that is lowest in it.
        reachable: whether that one keeps to the bound.
    """

    quantity: str
    among_rest: Setting | None
    alone: Setting
    reachable: bool

    @property
    def binds(self) -> bool:
        """Whether the goal can be met without this bound."""
        return self.among_rest is not None


@dataclass(frozen=True)
class Answer:
    """What a plan comes to.

    Args:
        goal: settled.
        settings: all, lowest first in what the goal minimises, what is not known last.
        front: those that nothing beats in the goal's objectives, in the same order.
        sending_front: the same among those that send something: a network that runs whole on the device may
            beat them all.
        meeting: those that meet the goal, in the same order, ties broken by the other objectives.
        obstacles: one for each bound, where nothing meets the goal; else empty.
        nearest: of which the goal's shortfall is least, where nothing meets it.
    """

    goal: Goal
    settings: tuple[Setting, ...]
    front: tuple[Setting, ...]
    sending_front: tuple[Setting, ...]
    meeting: tuple[Setting, ...]
    obstacles: tuple[Obstacle, ...] = ()
    nearest: Setting | None = None

    @property
    def recommended(self) -> Setting | None:
        """The first of those that meet the goal. Nothing beats it, so it is on the front."""
        return self.meeting[0] if self.meeting else None

    @property
    def shown(self) -> tuple[Setting, ...]:
        """The settings of both fronts, in the order of all."""
        return tuple(one for one in self.settings if one in self.front or one in self.sending_front)

    @property
    def sending(self) -> Setting | None:
        """The first of those that meet the goal and send something."""
        return next((one for one in self.meeting if not one.candidate.local), None)

    @property
    def surest(self) -> Setting | None:
        """The first of those that meet the goal with the whole interval of their accuracy."""
        least = self.goal.bounds.get("error")
        if least is None:
            return self.recommended
        return next((one for one in self.meeting if 1 - one.accuracy_interval[0] <= least), None)


def answer_to(settings: Sequence[Setting], goal: Goal) -> Answer:
    """The answer to a goal.

    Of settings that meet it the one is recommended that is least in what the goal minimises; of equal ones
    the most accurate, then the one that is least in the other objectives, in the order of
    :data:`QUANTITIES`.

    Args:
        settings: to choose from, at least one.
        goal: whose quantity that is to be least may be left to :meth:`Goal.settled`.

    Raises:
        ValueError: nothing to choose from.
        PlanningError: the goal is about what is known of no setting.
    """
    if not settings:
        raise ValueError("no setting to choose from")
    goal = goal.settled(settings)
    ordered = sorted(settings, key=lambda one: _rank(one, goal))
    front = _front(ordered, goal)
    sending = _front([one for one in ordered if not one.candidate.local], goal)
    meeting = tuple(one for one in ordered if goal.met(one))
    if meeting:
        return Answer(goal, tuple(ordered), front, sending, meeting)
    obstacles = tuple(_obstacle(name, ordered, goal) for name in QUANTITIES if name in goal.bounds)
    nearest = min(ordered, key=lambda one: (goal.shortfall(one), _rank(one, goal)))
    return Answer(goal, tuple(ordered), front, sending, (), obstacles, nearest)


def _front(settings: Sequence[Setting], goal: Goal) -> tuple[Setting, ...]:
    costs = np.array([_costs(one, goal.objectives) for one in settings])
    flags = on_front(costs.reshape(len(settings), len(goal.objectives)))
    return tuple(one for one, flag in zip(settings, flags, strict=True) if flag)


def _obstacle(name: str, settings: Sequence[Setting], goal: Goal) -> Obstacle:
    known = [one for one in settings if QUANTITIES[name].read(one) is not None]
    alone = min(known, key=lambda one: _value(one, name))
    rest = [one for one in known if goal.met(one, without=name)]
    among_rest = min(rest, key=lambda one: _value(one, name), default=None)
    return Obstacle(name, among_rest, alone, goal.kept(alone, name))


def _rank(setting: Setting, goal: Goal) -> tuple[float | str, ...]:
    """Lower comes first: what is minimised, the other objectives, then all else; what is not known last."""
    names = dict.fromkeys([goal.minimise or "error", *goal.objectives, *QUANTITIES])
    return (*(_value(setting, name) for name in names), setting.name)


def _value(setting: Setting, name: str) -> float:
    value = QUANTITIES[name].read(setting)
    return math.inf if value is None else value


def _costs(setting: Setting, names: Sequence[str]) -> list[float]:
    values = [QUANTITIES[name].read(setting) for name in names]
    return [math.nan if value is None else value for value in values]
