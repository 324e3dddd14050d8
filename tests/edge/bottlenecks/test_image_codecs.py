"""What of an image file says nothing of its image."""

import pytest
import torch

from edge.bottlenecks import create


@pytest.mark.parametrize("name", ["jpeg", "webp", "png", "raw-image"])
def test_constant_bytes_are_the_file_of_a_black_image(name: str) -> None:
    codec = create(name, (3, 16, 12))
    black, noise = (
        len(codec.encode(image)[0]) for image in (torch.zeros(1, 3, 16, 12), torch.rand(1, 3, 16, 12))
    )
    if name == "raw-image":
        assert (codec.constant_bytes, black) == (0, 3 * 16 * 12)
    else:
        assert 0 < codec.constant_bytes == black < noise


def test_the_header_of_jpeg_is_most_of_a_small_image() -> None:
    # Optimised JPEG of a uniform 8x8 image: 283 bytes for grey, whose blocks are zero; two more for black.
    codec = create("jpeg", (3, 8, 8))
    assert 275 <= codec.constant_bytes <= 295
    assert len(codec.encode(torch.full((1, 3, 8, 8), 128 / 255))[0]) <= codec.constant_bytes


def test_a_learned_code_has_no_header() -> None:
    assert create("factorized", (1, 8, 8), (4, 4, 4), channels=2).constant_bytes == 0
