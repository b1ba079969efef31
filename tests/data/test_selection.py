"""Frames by name, or so many."""

import pytest

from occkit.data.selection import choose_frames, evenly_spread
from occkit.errors import ConfigError

TOKENS = ("a", "b", "c", "d", "7")


def test_spread_takes_the_middle_of_equal_parts():
    assert evenly_spread("abcdefgh", 2) == ("c", "g")
    assert evenly_spread("abc", 9) == ("a", "b", "c")
    assert evenly_spread("", 3) == ()


def test_names_come_in_the_order_of_the_data_set_and_a_number_says_how_many():
    assert choose_frames(TOKENS, ("d", "a")) == ("a", "d")
    assert choose_frames(TOKENS, ("2",)) == ("b", "d")
    assert choose_frames(TOKENS, ("7",)) == ("7",)  # a frame is called so


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [((), "how many"), (("0",), "how many"), (("a", "2"), "no frame '2'"), (("1533151603512404",), "no frame '1533")],
)
def test_a_frame_that_is_not_there_is_named(wanted, problem):
    with pytest.raises(ConfigError, match=problem):
        choose_frames(TOKENS, wanted)
