import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.planning.front import on_front

cost = st.one_of(st.integers(0, 4).map(float), st.just(math.nan))
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cost, min_size=width, max_size=width), max_size=14).map(
        lambda rows: np.array(rows, float).reshape(-1, width)
    )
)


def by_definition(table: np.ndarray) -> list[bool]:
    """No other is as low in every cost and lower in one; none of which a cost is not known."""
    known = [row for row in table.tolist() if not any(map(math.isnan, row))]

    def beaten(row: list[float]) -> bool:
        return any(other != row and all(a <= b for a, b in zip(other, row, strict=True)) for other in known)

    return [row in known and not beaten(row) for row in table.tolist()]


def test_by_hand() -> None:
    assert on_front([[1, 5], [2, 4], [2, 5], [3, 1], [1, 5]]).tolist() == [True, True, False, True, True]
    assert on_front(np.zeros((0, 3))).tolist() == []
    assert on_front([[math.nan, 0], [9, 9]]).tolist() == [False, True]


@given(tables)
def test_the_definition_holds(table: np.ndarray) -> None:
    assert on_front(table).tolist() == by_definition(table)


@given(tables, st.randoms())
def test_the_order_of_the_points_is_of_no_account(table: np.ndarray, random: object) -> None:
    order = np.random.default_rng(random.getrandbits(32)).permutation(len(table))  # type: ignore[attr-defined]
    assert on_front(table[order]).tolist() == on_front(table)[order].tolist()


def test_infinite_costs_are_costs() -> None:
    assert on_front([[math.inf, 1], [2, 2], [math.inf, 3]]).tolist() == [True, True, False]


@pytest.mark.parametrize("costs", [[1.0, 2.0], np.zeros((2, 0)), np.zeros((1, 2, 3))])
def test_another_shape_is_an_error(costs: object) -> None:
    with pytest.raises(ValueError, match=r"expected \[points, costs\]"):
        on_front(costs)  # type: ignore[arg-type]
