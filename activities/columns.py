"""Values as Arrow columns: exact decimals from text, times in ns, books as lists of levels.

Whatever does not fit raises pa.ArrowException or OverflowError, and then nothing has been kept of it.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

UNFIT = (pa.ArrowException, OverflowError)
_REPEATED = pa.dictionary(pa.int32(), pa.string())  # prices repeat, and many sizes
_SHORTEST_TIME = len("2026-08-11T00:00:00Z")
_MICROSECONDS = pa.timestamp("us", "UTC")


def batch(
    schema: pa.Schema,
    ts_recv: Any,
    conn: Any,
    n: Any,
    values: Mapping[str, Any],
    counts: Sequence[int] | None = None,
    plain: bool = False,
) -> pa.RecordBatch:
    """Rows of a table but for its feed, in the table's order of columns.

    `ts_recv` (an int64 array), `conn` and `n` are the frames'; a frame has as many rows as `counts` says, or one each.
    A column that `values` does not have is null. With `plain` any decimal but a plain one is unfit. Whatever is an
    Arrow array already stays as it is.
    """
    made: dict[str, Any] = {
        "ts_recv": ts_recv,
        "conn": conn if isinstance(conn, pa.Array) else pa.array(conn, _REPEATED),
        "n": pa.array(n, pa.int64()),
    }
    rows = len(ts_recv)
    if counts is not None:
        frame, made["item"] = _places(counts)
        rows = len(frame)
        made |= {name: made[name].take(frame) for name in ("ts_recv", "conn", "n")}
    elif "item" not in values:
        made["item"] = pa.repeat(pa.scalar(0, pa.int32()), rows)
    made |= {name: given for name, given in values.items() if isinstance(given, pa.Array)}
    fields = [f for f in schema if f.name != "feed"]
    texts = [f for f in fields if f.name in values and f.name not in made and pa.types.is_decimal(f.type)]
    made |= _decimals(texts, values, plain)
    for field in fields:
        if field.name not in made:
            given = values.get(field.name)
            made[field.name] = pa.nulls(rows, field.type) if given is None else _column(field, given)
    return pa.record_batch([made[field.name] for field in fields], schema=pa.schema(fields))


def _places(counts: Sequence[int]) -> tuple[Any, Any]:
    """For each row the place of its frame, and its own place in that frame."""
    frame = pa.array(chain.from_iterable([i] * count for i, count in enumerate(counts)), pa.int32())
    item = pa.array(chain.from_iterable(map(range, counts)), pa.int32())
    return frame, item


def _decimals(fields: "list[pa.Field[Any]]", values: Mapping[str, Sequence[str | None]], plain: bool) -> dict[str, Any]:
    """Columns of one type are made together: a call costs as much as hundreds of values."""
    made: dict[str, Any] = {}
    for kind in {f.type for f in fields}:
        names = [f.name for f in fields if f.type == kind]
        texts: Any = pa.array(list(chain.from_iterable(values[name] for name in names)), _REPEATED)
        if plain and not _all_plain(texts.dictionary):
            raise pa.ArrowInvalid("a number is no plain decimal")
        numbers, start = texts.dictionary.cast(kind).take(texts.indices), 0
        for name in names:
            made[name] = numbers.slice(start, len(values[name]))
            start += len(values[name])
    return made


def _column(field: "pa.Field[Any]", values: Sequence[Any]) -> Any:
    if field.name == "ts_event":
        return _times(values)
    if field.name in {"bids", "asks"}:
        return _levels(values, field.type)
    return pa.array(values, field.type)


def _all_plain(texts: Any) -> bool:
    """Whether what Arrow takes for decimals also is `-?[0-9]+(\\.[0-9]+)?`: no `+1`, `1e5`, `.5`, `5.`"""
    data = texts.buffers()[2]
    if data is not None and bytes(data).translate(None, b"-.0123456789"):
        return False
    odd: Any = (pc.starts_with(texts, "."), pc.starts_with(texts, "-."), pc.ends_with(texts, "."))
    return not any(some.true_count for some in odd)


def _times(values: Sequence[int | str | None]) -> Any:
    """Nanoseconds, as given or from RFC 3339 text in UTC."""
    if not isinstance(next((v for v in values if v is not None), None), str):
        return pa.array(values, pa.int64())
    return utc(pa.array(values, pa.string()))


def utc(texts: Any) -> Any:
    """Nanoseconds of RFC 3339 text in UTC."""
    # Arrow also takes `2026-08-11 00Z` and other zones, which are other text than we were promised.
    good: Any = pc.and_(
        pc.ends_with(texts, "Z"), pc.greater_equal(pc.binary_length(texts), pa.scalar(_SHORTEST_TIME, pa.int32()))
    )
    if good.false_count:
        raise pa.ArrowInvalid("a time is not RFC 3339 in UTC")
    return pc.multiply_checked(texts.cast(_MICROSECONDS).cast(pa.int64()), pa.scalar(1000, pa.int64()))


def _levels(sides: Sequence[Sequence[tuple[str, str]]], to: Any) -> Any:
    """Book sides as a list column, without a Python object per level beyond the text itself."""
    level = to.value_type
    offsets = [0]
    for side in sides:
        offsets.append(offsets[-1] + len(side))
    prices = pa.array([price for side in sides for price, _ in side], pa.string())
    sizes = pa.array([size for side in sides for _, size in side], pa.string())
    pairs = pa.StructArray.from_arrays(
        [prices.cast(level[0].type), sizes.cast(level[1].type)], fields=[level[0], level[1]]
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs, type=to)
