import pickle
import sys

import pytest
import torch

from fedsim.measure.sc2 import sc2_kilobytes


@pytest.mark.parametrize(
    "size", [0, 1, 30, 254, 255, 256, 257, 1_000, 65_483, 65_484, 65_535, 65_536, 65_537, 200_000]
)
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (55, 55), (255, 255)])
def test_it_is_the_size_of_the_real_pickle(size: int, shape: tuple[int, int]) -> None:
    pickled = pickle.dumps({"strings": [[bytes(size)]], "shape": torch.Size(shape)})
    assert sc2_kilobytes(size) == sys.getsizeof(pickled) / 1024


def test_the_published_constants() -> None:
    assert sc2_kilobytes(200) == (200 + 103) / 1024
    assert sc2_kilobytes(590) == pytest.approx(0.68, abs=0.005)  # Entropic Student's smallest point


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="payload of -1 bytes"):
        sc2_kilobytes(-1)
