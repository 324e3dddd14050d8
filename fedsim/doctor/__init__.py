"""What this machine can do for fedsim: a list of probes, each of which looks at one thing for real.

A probe takes a bounded time and leaves nothing behind, but for modules that the kernel loaded because it was
asked for what they bring.
"""

from fedsim.doctor.examination import PROBES, Probe, examine
from fedsim.doctor.finding import Finding, State
from fedsim.doctor.table import table

__all__ = ["PROBES", "Finding", "Probe", "State", "examine", "table"]
