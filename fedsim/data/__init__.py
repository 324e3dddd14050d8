"""Data sets by name."""

from fedsim.data.dataset import Dataset, Source, validation
from fedsim.data.sources import available, find, load
from fedsim.data.tasks import Task

__all__ = ["Dataset", "Source", "Task", "available", "find", "load", "validation"]
