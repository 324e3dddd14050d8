"""Measured energy: the meters of this machine, and the logs of meters beside it.

A meter says how many joules a window of time took, or that this is unavailable, and why. It never estimates:
no power of a data sheet, no share of a processor's load.
"""

from edge.energy.csv import CsvMeter, PowerLog, read_power_log
from edge.energy.discovery import find_meters, sources
from edge.energy.meter import Meter, MeterError, Reading, Source, What
from edge.energy.window import Window, read_window

__all__ = [
    "CsvMeter",
    "Meter",
    "MeterError",
    "PowerLog",
    "Reading",
    "Source",
    "What",
    "Window",
    "find_meters",
    "read_power_log",
    "read_window",
    "sources",
]
