"""Class statistics, their codec, and classification by the nearest prototype."""

from edge.prototypes.codec import BITS, StatisticsCodec
from edge.prototypes.nearest import Prototypes
from edge.prototypes.statistics import ClassStatistics, StatisticsError

__all__ = ["BITS", "ClassStatistics", "Prototypes", "StatisticsCodec", "StatisticsError"]
