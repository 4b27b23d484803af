"""Sets of frame numbers behave as sets of integers."""

from hypothesis import given
from hypothesis import strategies as st

from services.archiver.ranges import Numbers


@given(st.lists(st.integers(1, 30)))
def test_as_a_set_of_integers(added: list[int]) -> None:
    numbers, expected = Numbers(), set()
    for n in added:
        assert numbers.add(n) == (n not in expected)
        expected.add(n)
    assert [n for a, b in numbers.ranges for n in range(a, b + 1)] == sorted(expected)
    assert all(b + 1 < c for (_, b), (c, _) in zip(numbers.ranges, numbers.ranges[1:], strict=False))
    assert [n for a, b in numbers.holes(3, 20) for n in range(a, b + 1)] == sorted(set(range(3, 21)) - expected)
