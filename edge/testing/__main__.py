"""``python -m edge.testing NAME --input-shape C,H,W``: the conformance kit as a command."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch

from edge.bottlenecks import Bottleneck, create
from edge.testing import ConformanceError, Report, check_bottleneck

__all__ = ["main"]


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; allowed are sizes such as 3,8,8")
    return shape


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no JSON object such as {{"channels": 4}}')
    return options


def _samples(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} samples; allowed are 2 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edge.testing",
        description="Check a bottleneck against the contract, on random features between 0 and 1.",
        epilog="Exit codes: 0 keeps the contract, 1 breaks a clause, 2 the arguments are wrong.",
    )
    parser.add_argument("name", help="package.module:Class, or a registered name")
    parser.add_argument("--input-shape", type=_shape, required=True, help="of one sample, such as 3,8,8")
    parser.add_argument("--output-shape", type=_shape, help="of one sample (default: the input shape)")
    parser.add_argument("--options", type=_options, default={}, help="JSON, such as '{\"channels\": 4}'")
    parser.add_argument("--samples", type=_samples, default=6, help="2 or more (default: 6)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and features (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check, print what was found, and return the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)

    def make() -> Bottleneck:
        return create(arguments.name, arguments.input_shape, arguments.output_shape, **arguments.options)

    torch.manual_seed(arguments.seed)
    features = torch.rand(arguments.samples, *arguments.input_shape)
    try:
        with torch.device("cpu"):
            make()
    except Exception as error:  # whatever a constructor makes of options and shapes
        parser.error(f"{arguments.name} cannot be made: {error}")
    try:
        report = check_bottleneck(make, features)
    except ConformanceError as error:
        print(error)
        return 1
    print("\n".join(_lines(arguments.name, report)))
    return 0


def _lines(name: str, report: Report) -> list[str]:
    """The report in words."""
    sizes, ideal = report.payload_bytes, report.ideal_bytes
    lines = [
        f"{name} keeps all {len(report.clauses)} clauses that were checked.",
        f"  payload   {_range(sizes)} bytes, for {_range(ideal)} bytes of information",
    ]
    if report.constant_bytes:
        lines.append(f"  header    {report.constant_bytes} bytes of each payload say nothing of its sample")
    if len(report.level_bytes) > 1:
        lines.append(
            f"  levels    {', '.join(f'{size:.1f}' for size in report.level_bytes)} bytes in the mean"
        )
    if report.not_checked:
        lines += ["not checked:", *(f"  - {clause}: {why}" for clause, why in report.not_checked.items())]
    return lines


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    shown = [f"{v:.0f}" if math.isclose(v, round(v)) else f"{v:.1f}" for v in (low, high)]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"


if __name__ == "__main__":
    sys.exit(main())
