"""A subject that cannot be measured is in the table with its reason, and keeps nothing else from being measured."""

import pytest

from bench import page
from bench.size import QUICK
from bench.subjects import Subject, apart


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("raising", "ValueError: the disk is on fire"),
        ("endless", "it took more than 3 s"),
        ("dying", "its process ended with 9"),
        ("missing", "AttributeError"),
    ],
)
def test_the_reason_is_in_the_table(function: str, why: str) -> None:
    measured = apart("pretended", Subject("tests.bench.pretended", function, 3), QUICK)
    [row] = measured.rows
    assert why in " ".join(page.line("pretended", row))
