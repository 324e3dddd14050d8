"""Where the devices' energy went, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedsim.measure.files import replacing
from fedsim.measure.schema import Energy, Summary

__all__ = ["energy_figure", "plot_energy"]

#: Causes with Okabe and Ito's colours: the processor in blues, the radio in reds and yellow.
_CAUSES = {
    "head_j": ("head", "#0072B2"),
    "encode_j": ("encode", "#56B4E9"),
    "promotion_j": ("radio: waking", "#F0E442"),
    "send_j": ("radio: transfers", "#E69F00"),
    "tail_j": ("radio: tails", "#D55E00"),
}
_UNITS = ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))
_DPI = 150
_WIDTH_INCHES = 8.4
_ROW_INCHES = 0.34
_ROOM_INCHES = 1.5  # above the bars and below


def plot_energy(summary: Summary, path: Path) -> None:
    """Write the joules of a sample by their causes as a PNG, whole or not at all."""
    figure = energy_figure(summary)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def energy_figure(summary: Summary) -> Figure:
    """The picture itself: a bar for each row whose energy is known, in the order of the rows.

    A bar is what the samples cost above a device at rest. What the devices draw at rest depends on how
    often samples come, and is mostly longer than the picture is wide: it stands behind the bar, as a number.
    """
    rows = [(row.method, row.energy) for row in summary.rows if row.energy is not None]
    figure = Figure(
        figsize=(_WIDTH_INCHES, _ROOM_INCHES + _ROW_INCHES * max(len(rows), 2)),
        dpi=_DPI,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    figure.suptitle(str(summary.scenario.get("name", "")))
    lengths = [sum(getattr(energy, key) or 0.0 for key in _CAUSES) for _, energy in rows]
    scale, unit = _unit(max(lengths, default=0.0))
    places = np.arange(len(rows))
    left = np.zeros(len(rows))
    for key, (name, colour) in _CAUSES.items():
        values = np.array([getattr(energy, key) or 0.0 for _, energy in rows]) / scale
        if values.any():
            axes.barh(places, values, 0.7, left, color=colour, edgecolor="white", linewidth=0.5, label=name)
            left += values
    for place, end, (_, energy) in zip(places, left, rows, strict=True):
        axes.annotate(
            _said(energy),
            (end, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    axes.set_yticks(places, [method for method, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * float(left.max(initial=0.0)) or 1.0)  # with room for the numbers
    words = ", ".join(dict.fromkeys(energy.provenance for _, energy in rows))
    axes.set_xlabel(f"{unit} a sample answered, above a device at rest ({words})")
    axes.grid(which="major", axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, frameon=False, fontsize="small")
    return figure


def _unit(largest: float) -> tuple[float, str]:
    return next((one for one in _UNITS if largest >= one[0]), _UNITS[-1])


def _said(energy: Energy) -> str:
    """What stands behind a bar."""
    work = "unavailable" if energy.incremental_j is None else _joules(energy.incremental_j)
    rest = [value for value in (energy.base_j, energy.idle_j) if value is not None]
    return work + (f"; at rest {_joules(sum(rest))}" if rest else "")


def _joules(value: float) -> str:
    """To three digits, in the unit that suits it."""
    scale, unit = _unit(value)
    return f"{value / scale:.3g} {unit}"
