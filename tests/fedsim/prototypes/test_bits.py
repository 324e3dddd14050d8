"""What coded prototypes are worth: digits by their pixels, and nothing trained."""

import numpy as np
import pytest
import torch

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim import data
from fedsim.prototypes.classifiers import euclidean


@pytest.mark.parametrize(("bits", "smaller", "most_points"), [(8, 4, 0.5), (5, 6, 0.5), (4, 8, 1.0)])
def test_few_bits_tell_digits_as_float32_does(bits, smaller, most_points):
    digits = data.load("digits")
    statistics = ClassStatistics.of(digits.x_train.reshape(-1, 64) / 255.0, digits.y_train)
    points = torch.from_numpy(digits.x_test.reshape(-1, 64) / 255.0).float()

    def measured(bits):
        codec = StatisticsCodec(64, bits)
        payload = codec.encode(statistics).payload
        chosen = euclidean(points, codec.decode(payload), 10).argmax(1).numpy()
        return len(payload), 100 * np.mean(chosen == digits.y_test)

    (floats, before), (coded, after) = measured(32), measured(bits)
    assert coded * smaller <= floats
    assert after >= before - most_points
