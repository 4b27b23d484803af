"""Values of many frames at once, for the venues' `BulkGrammar`s: whatever is out of the ordinary raises Unparsable, and
then each frame is asked for by itself."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from exchanges.port import Unparsable

_NOTHING = frozenset({b"", b"null"})


Number = Callable[[msgspec.Raw], str]  # the venue's way with one number, whatever it is


def digits(raws: Iterable[msgspec.Raw], number: Number) -> list[str]:
    """The text of JSON numbers, exponents written out; what is none is refused as no plain decimal later."""
    kept = list(raws)
    texts = [bytes(raw).decode() for raw in kept]
    if _has_exponent("".join(texts)):
        return [number(raw) if _has_exponent(text) else text for raw, text in zip(kept, texts, strict=True)]
    return texts


def digits_if_any(raws: Iterable[msgspec.Raw], number: Number) -> list[str | None]:
    """As `digits`; None where there is none, or null."""
    kept = list(raws)
    here = [bytes(raw) not in _NOTHING for raw in kept]
    if all(here):
        return list(digits(kept, number))
    found = iter(digits((raw for raw, there in zip(kept, here, strict=True) if there), number))
    return [next(found) if there else None for there in here]


def _has_exponent(text: str) -> bool:
    return "e" in text or "E" in text


def unsigned(texts: Sequence[str]) -> Sequence[str]:
    """These texts, none of them with a sign."""
    if "-" in "".join(texts):
        raise Unparsable("a number has a sign")
    return texts


def utc(times: Sequence[str | None]) -> Sequence[str | None]:
    """These times, if all of them are RFC 3339 in its usual form; whether the digits are a time is seen later."""
    for time in times:
        if time is not None and not (time[10:11] == "T" and time[13:14] == ":" == time[16:17] and time[19:20] in ".Z"):
            raise Unparsable("a time is not RFC 3339 in its usual form")
    return times


def ns(milliseconds: Iterable[int | None]) -> list[int | None]:
    return [None if ms is None else ms * 1_000_000 for ms in milliseconds]
