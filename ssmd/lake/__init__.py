"""The lake and the archive as SQL: a DuckDB connection with a view per table, over the files that manifests name.

    import ssmd.lake
    ssmd.lake.connect("data").sql("select symbol, count(*) from trades group by all").show()
    ssmd.lake.open("data").read("trades", feed="kalshi", start="2026-11-20", end="2026-11-21", strict=True).polars()

Views: `raw` (every archived frame), `trades`, `tickers`, `book_deltas`, `book_snapshots`, `status`, `sessions`,
`gaps`, `coverage` (what of a day is there, by instrument), `instruments` and `fees` (the latest version of each),
`instrument_versions` and `fee_versions` (all of them, from when until when they were valid). Macros:
`instruments_as_of(ns)` and `fees_as_of(ns)` give the versions that were valid at a time; `bars`, `vwap`,
`last_price_at`, `book_at`, `top_of_book`, `top_of_book_at`, `trades_with_quotes` and smaller ones are in docs/lake.md.
A view shows what was there when the connection was made.
"""

from ssmd.lake.reading import Incomplete, Lake, Missing, Rows, open  # noqa: A004 - ssmd.lake.open
from ssmd.lake.views import VIEWS, connect, refusal

__all__ = ["VIEWS", "Incomplete", "Lake", "Missing", "Rows", "connect", "open", "refusal"]
