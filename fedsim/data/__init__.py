"""Data sets by name."""

from fedsim.data.dataset import Dataset, Source, validation
from fedsim.data.sources import available, find, load

__all__ = ["Dataset", "Source", "available", "find", "load", "validation"]
