"""Numbers and times of JSON become exact text and ns, or are refused."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.kraken import digits
from exchanges.port import Unparsable


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9), st.booleans())
def test_a_number_keeps_its_value_and_its_digits(value: Decimal, exponent: bool) -> None:
    plain = format(value, "f")
    assert digits.number(_raw(plain)) == plain
    if abs(value.adjusted()) < digits.EXPONENT_MAX:
        written = digits.number(_raw(f"{value:e}"))
        assert Decimal(written) == value and "e" not in written.lower()


@pytest.mark.parametrize("text", ["", "null", '"1.5"', "true", "[]", "{}", "1e99", "1e-99"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        digits.number(_raw(text))


def test_nothing_is_known_of_what_is_absent_or_null() -> None:
    assert digits.known(digits.ABSENT) is None and digits.known(_raw("null")) is None
    assert digits.known(_raw("1.50")) == "1.50"


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999_999))
def test_times_are_exact_to_the_nanosecond(seconds: int, ns: int) -> None:
    head = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    at = seconds * 10**9 + ns
    assert digits.rfc3339_ns(f"{head}.{ns:09d}Z") == at
    assert digits.rfc3339_ns(f"{head}Z") == seconds * 10**9
    assert digits.rfc3339_ns(digits.rfc3339(at)) == at // 1000 * 1000
    assert digits.seconds_ns(f"{seconds}.{ns:09d}") == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2023-10-06T17:35:55",
        "2023-10-06 17:35:55Z",
        "2023-10-06T17:35:55+00:00",
        "2023-10-06T17:35:55.Z",
        "2023-10-06T17:35:55.1234567890Z",
        "2023-10-06T17:35:55.12x4Z",
        "2023-10-06T17:35:55,123Z",
        "2023-13-06T17:35:55Z",
        "2023-02-30T17:35:55Z",
        "2023-10-06T17:35:61Z",
        "x" * 500,
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        digits.rfc3339_ns(text)


@pytest.mark.parametrize("text", ["", "x", "NaN", "1e9x"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        digits.seconds_ns(text)
