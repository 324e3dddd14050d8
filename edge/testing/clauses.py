"""Clauses of a contract: each is checked by itself, and what goes wrong is told with its numbers.

::

    Subject --clause by clause, in order--> Verdict --report--> Report, or ConformanceError

A clause that builds on a broken one would only repeat it in other words: it is listed as not checked.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from edge.bottlenecks.base import Bottleneck

__all__ = [
    "BrokenError",
    "Clause",
    "ConformanceError",
    "NotCheckedError",
    "Report",
    "Subject",
    "Verdict",
    "clause",
    "differing",
    "expect",
    "expect_close",
    "said",
    "telling",
]

_HERE = Path(__file__).parent


class ConformanceError(AssertionError):
    """Names every clause of the contract that a bottleneck breaks, with the numbers.

    Args:
        name: of the bottleneck's class.
        verdict: what was found.
    """

    def __init__(self, name: str, verdict: Verdict) -> None:
        #: What is wrong, by clause.
        self.broken: dict[str, str] = verdict.broken
        #: Why it was not looked at, by clause.
        self.not_checked: dict[str, str] = verdict.not_checked
        count = len(verdict.checked) + len(verdict.broken)
        lines = [f"{name} breaks {len(self.broken)} of {count} clauses:"]
        lines += [f"  - {clause}: {message}" for clause, message in self.broken.items()]
        if self.not_checked:
            lines += ["not checked:", *(f"  - {clause}: {why}" for clause, why in self.not_checked.items())]
        super().__init__("\n".join(lines))


@dataclass
class Report:
    """What the kit saw of a bottleneck that keeps the contract."""

    samples: int
    payload_bytes: list[int] = field(default_factory=list)  #: of each sample, at the highest level
    ideal_bytes: list[float] = field(default_factory=list)  #: the information in them
    level_bytes: list[float] = field(default_factory=list)  #: mean payload of each level, the lowest first
    constant_bytes: int = 0  #: of each payload, what says nothing of its sample
    clauses: list[str] = field(default_factory=list)  #: in the order in which they were checked
    not_checked: dict[str, str] = field(default_factory=dict)  #: clauses that could not be, and why


@dataclass
class Subject:
    """The bottleneck under test, and what the clauses have learned of it so far."""

    make: Callable[[], Bottleneck]
    features: Tensor  #: [N, *input_shape]
    tolerance: float
    bottleneck: Bottleneck = field(init=False)  #: once made
    computed: bool | None = None  #: whether the constructor computed; None where it cannot be told
    payloads: list[bytes] = field(default_factory=list)  #: once encoded
    early: list[bytes] | Exception | None = None  #: what encode gave, or raised, before freeze
    level_payloads: list[list[bytes]] = field(default_factory=list)  #: the lowest level first

    @property
    def name(self) -> str:
        """Of the bottleneck's class, where one could be made."""
        return type(self.bottleneck).__name__ if hasattr(self, "bottleneck") else "the bottleneck"

    @property
    def coded(self) -> list[tuple[str, bytes]]:
        """Every payload of every level, each with the words for it."""
        if len(self.level_payloads) < 2:
            return [(f"sample {i}", payload) for i, payload in enumerate(self.payloads)]
        return [
            (f"level {level}, sample {i}", payload)
            for level, payloads in enumerate(self.level_payloads)
            for i, payload in enumerate(payloads)
        ]

    @property
    def expected(self) -> tuple[int, ...]:
        """The shape of the reconstruction of all samples."""
        return len(self.features), *self.bottleneck.output_shape


class BrokenError(Exception):
    """What is wrong, with the numbers."""


class NotCheckedError(Exception):
    """Why a clause says nothing about this bottleneck, or not here."""


@dataclass(frozen=True)
class Clause:
    """A sentence that holds for every bottleneck, and the check of it.

    Args:
        name: the sentence.
        check: raises where it does not hold.
        needs: clauses without which the check says nothing.
    """

    name: str
    check: Callable[[Subject], None]
    needs: tuple[Clause, ...] = ()


def clause(name: str, *needs: Clause) -> Callable[[Callable[[Subject], None]], Clause]:
    """Decorator that makes a check the clause ``name``."""
    return lambda check: Clause(name, check, needs)


@dataclass
class Verdict:
    """The clauses that were checked and kept, broken, or not checked."""

    checked: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    not_checked: dict[str, str] = field(default_factory=dict)
    _blocked: set[str] = field(default_factory=set)

    def look_at(self, clause: Clause, subject: Subject) -> None:
        """Check one clause, unless it builds on a broken one."""
        for need in clause.needs:
            if need.name in self.broken or need.name in self._blocked:
                self._blocked.add(clause.name)
                self.not_checked[clause.name] = f"it builds on {need.name!r}"
                return
        try:
            clause.check(subject)
        except NotCheckedError as reason:
            self.not_checked[clause.name] = str(reason)
        except Exception as error:  # the code of others can raise anything
            self.broken[clause.name] = said(error)
        else:
            self.checked.append(clause.name)


def said(error: Exception) -> str:
    """What was found, or which exception came from where."""
    if isinstance(error, BrokenError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    torch_folder = Path(torch.__file__).parent
    theirs = [f for f in frames if not {_HERE, torch_folder} & set(Path(f.filename).parents)]
    place = f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno}, in {theirs[-1].name})" if theirs else ""
    return f"raised {type(error).__name__}: {' '.join(str(error).split())}{place}"


@contextmanager
def telling(where: str) -> Iterator[None]:
    """Say ``where`` ahead of whatever goes wrong inside."""
    try:
        yield
    except NotCheckedError:
        raise
    except Exception as error:
        raise BrokenError(f"{where}: {said(error)}") from error


def expect(condition: bool, message: str) -> None:
    """Raise ``message`` unless the condition holds. (An ``assert`` is gone under ``python -O``.)"""
    if not condition:
        raise BrokenError(message)


def expect_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Both of one shape, and apart by at most ``tolerance`` of the largest value expected."""
    expect(found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    apart = (found.detach() - expected.detach()).abs()
    difference = float(apart.max()) / max(1.0, float(expected.detach().abs().max()))
    # Written so that a NaN is a difference.
    if not difference <= tolerance:
        sample = int(apart.flatten(1).amax(1).nan_to_num(float("inf")).argmax())
        raise BrokenError(
            f"largest relative difference {difference:g}, in sample {sample}; allowed {tolerance:g}"
        )


def differing(found: Sequence[bytes], expected: Sequence[bytes]) -> str:
    """How many payloads differ, and how the first of them does; empty where none does."""
    if len(found) != len(expected):
        return f"{len(found)} payloads, expected {len(expected)}"
    pairs = enumerate(zip(found, expected, strict=True))
    odd = [(sample, a, b) for sample, (a, b) in pairs if a != b]
    if not odd:
        return ""
    sample, a, b = odd[0]
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return (
        f"{len(odd)} of {len(expected)} payloads differ; the first is sample {sample}: "
        f"{len(a)} bytes against {len(b)}, apart from byte {same} on"
    )
