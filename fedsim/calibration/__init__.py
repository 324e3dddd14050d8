"""``fedsim calibrate``: what this machine takes to compute, to code and to serve, as a device file."""

from fedsim.calibration.run import EACH_S, HOST_S, calibrate
from fedsim.calibration.table import table

__all__ = ["EACH_S", "HOST_S", "calibrate", "table"]
