"""Numbers of samples beyond the data, and the bytes that they take."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.rpc import sample_message
from fedsim.simulator.workload import frame_bytes, rows_of

samples = st.integers(1, 50)
seeds = st.integers(0, 2**32 - 1)


@given(samples, seeds, st.integers(1, 6))
def test_every_round_through_the_data_has_each_sample_once(count, seed, rounds):
    rows = rows_of(np.arange(rounds * count), count, seed).reshape(rounds, count)
    assert rows[0].tolist() == list(range(count))
    for row in rows:
        assert sorted(row) == list(range(count))


@given(st.lists(st.integers(0, 10_000), max_size=40), samples, seeds)
def test_what_a_number_stands_for_does_not_depend_on_who_asks(numbers, count, seed):
    alone = [int(rows_of(np.array([number]), count, seed)[0]) for number in numbers]
    assert rows_of(np.array(numbers, np.int64), count, seed).tolist() == alone


@given(st.integers(0, 2**31), st.integers(0, 2000), st.binary(min_size=1, max_size=300))
def test_messages_are_as_long_as_real_ones(number, row, payload):
    made = len(sample_message(row, payload))
    found = frame_bytes(np.array([number]), np.array([row]), np.array([made]))
    assert found.tolist() == [len(sample_message(number, payload))]


def test_what_sends_nothing_has_no_bytes():
    assert frame_bytes(np.array([300, 5]), np.array([3, 5]), np.array([0, 0])).tolist() == [0, 0]
