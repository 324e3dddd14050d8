"""Codebooks: nearest vectors, moving averages against their closed form, revival, frequencies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bottlenecks.codebook import (
    DEAD,
    DECAY,
    Codebooks,
    coded_information,
    frequency_tables,
    nearest,
    spread,
)


def prepared(books: int, codes: int, dimensions: int) -> Codebooks:
    made = Codebooks(books, codes, dimensions)
    made.prepare_training()
    return made


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_no_code_is_nearer_than_the_nearest(seed: int, books: int, n: int, codes: int, d: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(books, n, d, generator=generator, dtype=torch.float64) * 3
    made = Codebooks(books, codes, d)
    made.codes.normal_(generator=generator)
    index = made.nearest(vectors)
    distances = (vectors[:, :, None] - made.codes[:, None].double()).square().sum(-1)
    torch.testing.assert_close(distances.gather(2, index[..., None])[..., 0], distances.amin(2))
    picked = made.look_up(index)
    for book in range(books):
        assert torch.equal(picked[book], made.codes[book][index[book]])
    assert torch.equal(made.nearest(made.codes), nearest(made.codes, made.codes))
    assert torch.equal(made.look_up(made.nearest(made.codes)), made.codes)


def test_codes_follow_the_closed_form_of_their_moving_averages() -> None:
    torch.manual_seed(0)
    books = prepared(1, 2, 1)
    books.start(torch.tensor([[[0.0], [0.0], [0.0], [8.0]]]))
    order = books.codes[0, :, 0].argsort()
    assert books.codes[0, order, 0].tolist() == [0.0, 8.0]
    # Two thirds of each batch go to the first code with mean 1, one third to the second with mean 11.
    batch = torch.tensor([[[0.0], [2.0], [11.0]]])
    index = order[torch.tensor([[0, 0, 1]])]
    steps = 37
    for _ in range(steps):
        books.update(batch, index)
    left = DECAY**steps
    use = [left * 0.75 + (1 - left) * 2 / 3, left * 0.25 + (1 - left) / 3]
    sums = [(1 - left) * 2 / 3, left * 0.25 * 8 + (1 - left) * 11 / 3]
    expected = torch.tensor([m / n for m, n in zip(sums, use, strict=True)])
    torch.testing.assert_close(books.codes[0, order, 0], expected)
    information = torch.tensor([-math.log2(n / sum(use)) for n in use])
    torch.testing.assert_close(books.information()[0, order], information)


def test_a_code_without_use_is_revived_when_its_average_is_a_tenth_of_an_even_share() -> None:
    torch.manual_seed(0)
    books = prepared(1, 4, 2)
    corners = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [50.0, 50.0]]])
    books.start(corners)
    far = int(books.nearest(corners[:, 3:])[0, 0])
    near = corners[:, :3]
    until_dead = math.ceil(math.log(DEAD) / math.log(DECAY))
    assert until_dead == 230
    for _ in range(until_dead - 1):
        books.update(near, books.nearest(near))
    torch.testing.assert_close(books.codes[0, far], torch.tensor([50.0, 50.0]))
    books.update(near, books.nearest(near))
    assert books.codes[0, far].tolist() in near[0].tolist()
    # It has an even use to begin with, so that it is not dead again at once.
    assert float(books.information()[0, far]) < math.log2(4) + 0.4


def test_revival_spreads_codes_that_all_started_in_one_place() -> None:
    torch.manual_seed(0)
    books = prepared(1, 8, 2)
    books.start(torch.zeros(1, 5, 2))
    for _ in range(10):
        vectors = torch.randn(1, 64, 2)
        books.update(vectors, books.nearest(vectors))
    assert len(books.nearest(torch.randn(1, 512, 2)).unique()) >= 7


def test_codes_start_one_in_each_cluster() -> None:
    torch.manual_seed(0)
    centres = torch.randn(2, 10, 4) * 20
    vectors = centres.repeat(1, 40, 1) + 0.1 * torch.randn(2, 400, 4)
    codes = spread(vectors, 10)
    for book in range(2):
        distances = torch.cdist(centres[book], codes[book])
        assert float(distances.amin(1).max()) < 0.2
        assert distances.argmin(1).unique().numel() == 10


def test_more_codes_than_different_vectors() -> None:
    torch.manual_seed(0)
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]])
    codes = spread(vectors, 7)
    near = codes[:, codes[0].abs().amax(1) < 5]
    assert {tuple(code) for code in near[0].tolist()} == {(1.0, 2.0), (3.0, 4.0)}
    assert len(codes[0].unique(dim=0)) == 7
    around = vectors + torch.randn(1, 3, 2)
    assert torch.equal(codes[0][nearest(around, codes)[0]], near[0][nearest(around, near)[0]])


def test_indices_of_the_same_seed_are_the_same() -> None:
    vectors = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(5))
    found = []
    for _ in range(2):
        torch.manual_seed(9)
        found.append(spread(vectors, 8))
    assert torch.equal(*found)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), min_size=1, max_size=4))
def test_frequencies_are_counts_with_one_added(counts: list[list[int]]) -> None:
    tables = frequency_tables(np.array(counts))
    for row, table in zip(counts, tables.frequencies, strict=True):
        expected = (np.array(row) + 1) / (sum(row) + 3)
        np.testing.assert_allclose(table[:-1] / 2.0**24, expected, atol=3 * 2.0**-24)
        assert table[-1] == 1
    like = torch.zeros(1, dtype=torch.float64)
    symbols = np.tile(np.arange(3, dtype=np.int32), (len(counts), 1))
    np.testing.assert_allclose(coded_information(tables, like).numpy(), tables.bits(symbols))


def test_counts_are_of_the_codes_as_they_are_now() -> None:
    torch.manual_seed(0)
    books = prepared(1, 4, 2)
    vectors = torch.randn(1, 50, 2)
    books.start(vectors)
    for _ in range(2):
        books.observe(books.nearest(vectors))
    assert books.counts.sum() == 100
    books.update(vectors, books.nearest(vectors))
    assert books.counts.sum() == 0


def test_training_asks_for_what_training_needs() -> None:
    with pytest.raises(RuntimeError, match="prepare_training"):
        Codebooks(1, 2, 3).start(torch.zeros(1, 2, 3))
