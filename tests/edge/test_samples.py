"""A file of samples: what is read, how it is divided and numbered, what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from edge.samples import Samples, SamplesError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "ten.safetensors"
    images = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1) * 25
    save_file({"images": images, "ids": torch.arange(10) * 3, "labels": torch.arange(10) % 4}, path)
    return path


def test_an_image_comes_as_a_network_takes_it(path):
    samples = Samples(path)
    assert samples.shape == (1, 1, 1)
    image = samples.image(4)
    assert (image.dtype, tuple(image.shape)) == (torch.float32, (1, 1, 1, 1))
    assert float(image) == pytest.approx(100 / 255)
    assert (samples.number(4), samples.label(4)) == (12, 0)


@given(total=st.integers(1, 10), repeat=st.integers(1, 4))
def test_shards_and_turns_have_every_number_once(path, total, repeat):
    shards = [Samples(path, (index, total), repeat=repeat) for index in range(total)]
    numbers = [shard.number(position) for shard in shards for position in range(len(shard))]
    assert sorted(numbers) == [28 * turn + 3 * row for turn in range(repeat) for row in range(10)]
    for shard in shards:
        for position in range(len(shard)):
            assert shard.label(position) == shard.number(position) % 28 // 3 % 4


def test_a_limit_takes_the_first_of_a_shard(path):
    samples = Samples(path, (1, 3), limit=2)
    assert [samples.number(position) for position in range(len(samples))] == [3, 12]


def test_without_numbers_and_labels_samples_are_counted(tmp_path):
    save_file({"images": torch.zeros(3, 1, 2, 2, dtype=torch.uint8)}, tmp_path / "file")
    samples = Samples(tmp_path / "file")
    assert [(samples.number(i), samples.label(i)) for i in range(3)] == [(0, None), (1, None), (2, None)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": None}, "has no 'images'"),
        ({"images": torch.zeros(2, 8, 8, dtype=torch.uint8)}, "'images' is U8[2, 8, 8]"),
        (
            {"labels": torch.zeros(3, dtype=torch.int64)},
            "'labels' is torch.int64[3], expected torch.int64[2]",
        ),
        ({"ids": torch.tensor([5, 5])}, "'ids' are not all different"),
        ({"ids": torch.tensor([-1, 5])}, "at least 0"),
        ({"ids": torch.tensor([0, 1 << 32])}, "allowed are up to 4294967295"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, change, words):
    content = {
        "images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
        "labels": torch.zeros(2, dtype=torch.int64),
    }
    content = {name: value for name, value in (content | change).items() if value is not None}
    save_file(content, tmp_path / "file")
    with pytest.raises(SamplesError) as caught:
        Samples(tmp_path / "file")
    assert str(caught.value).startswith(f"{tmp_path / 'file'}: ")
    assert words in str(caught.value)
