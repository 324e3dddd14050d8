"""Prototype classifiers, several prototypes a class, and the class statistics of a whole fleet at once.

Class statistics themselves, and their codec, are :mod:`edge.prototypes`: a device has them too.
"""

from fedsim.prototypes.classifiers import PrototypeClassifier, available, find
from fedsim.prototypes.fleet import fleet_statistics
from fedsim.prototypes.slots import assign, cluster, spread

__all__ = ["PrototypeClassifier", "assign", "available", "cluster", "find", "fleet_statistics", "spread"]
