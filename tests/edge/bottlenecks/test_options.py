import pytest

from edge.bottlenecks.options import real_number, two_widths, whole_number


def positive(value):
    return real_number("beta", value, lambda number: number > 0, "numbers above 0")


def test_what_fits_is_given_back():
    assert whole_number("channels", 3, 1) == 3
    assert whole_number("bits", 8, 1, 8) == 8
    assert positive(0.5) == 0.5
    assert two_widths("widths", [4, 8]) == (4, 8)


def test_a_real_number_is_a_float_also_where_it_was_written_as_a_whole_one():
    assert isinstance(positive(2), float)


@pytest.mark.parametrize("value", [0, 9, True, 1.0, "3", None])
def test_a_whole_number_that_does_not_fit(value):
    with pytest.raises(ValueError, match=r"^bits is .*, allowed are whole numbers of 1 to 8$"):
        whole_number("bits", value, 1, 8)


@pytest.mark.parametrize("value", [0, -1.0, True, float("nan"), float("inf"), "1", None])
def test_a_real_number_that_does_not_fit(value):
    with pytest.raises(ValueError, match=r"^beta is .*, allowed are numbers above 0$"):
        positive(value)


@pytest.mark.parametrize("widths", [3, "ab", [1], [1, 2, 3], None])
def test_widths_that_are_not_two(widths):
    with pytest.raises(ValueError, match=r"^widths is .*, allowed are two widths$"):
        two_widths("widths", widths)


def test_a_width_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"^widths\[1\] is 0, allowed are whole numbers of 1 or more$"):
        two_widths("widths", [1, 0])
