"""What can go wrong for a user of fedsim: one class for each kind, one clear message for each case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ClientError",
    "DataError",
    "EngineError",
    "FederationError",
    "FedsimError",
    "HardwareError",
    "ModelError",
    "MonitorError",
    "OutputError",
    "Problem",
    "RunExistsError",
    "SamplesFailedError",
    "ScenarioError",
    "SimulationError",
    "SweepError",
    "TrainingError",
]

_SHOWN = 60  # characters of a value that a message repeats


class FedsimError(Exception):
    """Base of the errors that the command line reports as a message, without a traceback."""

    exit_code = 2


class DataError(FedsimError):
    """A data set that is unknown, absent or damaged."""


class HardwareError(FedsimError):
    """A device, radio or link that is unknown, or whose file is wrong or lacks what is asked of it."""


class RunExistsError(FedsimError):
    """The run folder holds a run already, and nobody asked for it to be replaced."""


class OutputError(FedsimError):
    """A run folder that cannot be made, or cannot be put in its place."""


class ModelError(FedsimError):
    """A model that cannot be made or saved. The message names the method."""

    exit_code = 1


class MonitorError(FedsimError):
    """What a run tells cannot be served."""


class TrainingError(FedsimError):
    """A training that cannot go on."""

    exit_code = 1


class EngineError(FedsimError):
    """The engine could not carry the scenario out."""

    exit_code = 1


class SamplesFailedError(FedsimError):
    """More samples of a run have failed than its scenario allows. The run is finished, and stays."""

    exit_code = 1


class SimulationError(FedsimError):
    """A fleet that cannot be simulated as it is described."""


class SweepError(FedsimError):
    """Points of a sweep that failed. The message names each and repeats what it failed of."""

    exit_code = 1


class FederationError(FedsimError):
    """A federated run that failed."""

    exit_code = 1


class ClientError(FederationError):
    """A client of a federated run that failed; names its partition."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a scenario.

    Args:
        key: dotted path of the key; empty for the file as a whole.
        message: what is wrong, and what is allowed.
        value: the JSON text of the value; None where there is none to show.
        origin: where the value comes from, if not from the file (``--set``, the sweep).
    """

    key: str
    message: str
    value: str | None = None
    origin: str = ""

    def __str__(self) -> str:
        value = "" if self.value is None else f" = {self.value}"
        place = self.key + value + (f" ({self.origin})" if self.origin else "")
        return f"{place}: {self.message}" if place else self.message

    @staticmethod
    def shown(value: Any) -> str:
        """``value`` as a message repeats it: JSON, cut off where it is long."""
        text = json.dumps(value, ensure_ascii=False, default=str)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


class ScenarioError(FedsimError):
    """A scenario that cannot be run. One message for all that is wrong, a line for each problem.

    A line reads ``FILE: key = value: what is wrong and what is allowed``.
    """

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))
        self.file = file
        self.problems = tuple(problems)
