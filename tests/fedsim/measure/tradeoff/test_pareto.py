from hypothesis import given
from hypothesis import strategies as st

from fedsim.measure.tradeoff.pareto import efficient

vectors = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12)


def test_by_hand() -> None:
    assert efficient([(1, 5), (2, 4), (2, 5), (3, 1), (1, 5)]) == [True, True, False, True, True]
    assert efficient([]) == []


@given(vectors)
def test_each_is_efficient_or_beaten_by_one_that_is(costs: list[tuple[int, ...]]) -> None:
    front = [cost for cost, flag in zip(costs, efficient(costs), strict=True) if flag]
    for cost in costs:
        beaten = [f for f in front if f != cost and all(a <= b for a, b in zip(f, cost, strict=True))]
        assert bool(beaten) != (cost in front)
