import pytest
from torch import nn

from fedsim.training.loop import Images

from . import lessons


@pytest.fixture(scope="session")
def digits() -> tuple[Images, Images]:
    return lessons.digits()


@pytest.fixture(scope="session")
def few(digits: tuple[Images, Images]) -> Images:
    """So few that a recipe takes a moment."""
    return Images(digits[0].pixels[:64], digits[0].labels[:64])


@pytest.fixture(scope="session")
def teacher(digits: tuple[Images, Images]) -> nn.Module:
    return lessons.trained_teacher(digits[0])
