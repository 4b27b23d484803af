-- What people ask of trades, over the views trades and gaps and the macros of books.sql; see docs/lake.md.
--
-- A macro's parameter hides columns of its name: those with `feed` only hand it on, as `of_feed`.

-- Text without an offset is UTC.
CREATE MACRO ns(t VARCHAR) AS epoch_ns(t::TIMESTAMPTZ), (t TIMESTAMP_NS) AS epoch_ns(t),
    (t TIMESTAMPTZ) AS epoch_ns(t);

CREATE MACRO ts(ns) AS make_timestamp_ns(ns);

CREATE MACRO mid(bid, ask) AS (bid + ask) / 2;

CREATE MACRO spread(bid, ask) AS ask - bid;

-- Each trade once, though it came on two connections while one took over from the other. `traded_at` is when it came,
-- or what the venue says of one that was fetched later: such a row came at the end of its hour, or of its gap.
CREATE MACRO trades_between(of_symbols, start_ns, end_ns, of_feed) AS TABLE
    SELECT *
    FROM (
        SELECT t.*, CASE WHEN t.conn LIKE 'backfill:%' THEN coalesce(t.ts_event, t.ts_recv) ELSE t.ts_recv END
            AS traded_at
        FROM trades AS t
        WHERE t.symbol IN of_symbols AND (of_feed IS NULL OR t.feed = of_feed)
          AND t.ts_recv >= start_ns AND t.ts_recv < end_ns + 3_600_000_000_000
          AND t.date BETWEEN make_timestamp_ns(start_ns)::DATE AND make_timestamp_ns(end_ns + 3_599_999_999_999)::DATE
    )
    WHERE traded_at >= start_ns AND traded_at < end_ns
    QUALIFY trade_id IS NULL
        OR conn = first_value(conn) OVER (PARTITION BY feed, symbol, trade_id ORDER BY ts_recv, conn, n, item);

-- Bars of length `every`, from ts_start on; bars without trades only with `fill := true`, between those with trades:
-- their prices are the last close. `in_gap` says that an unrepaired gap of the instrument touches the bar, and nothing
-- is known of such a bar without trades.
CREATE MACRO bars_of(of_symbols, start_ns, end_ns, every, fill, of_feed) AS TABLE
    WITH bucketed AS (
        SELECT *, time_bucket(every::INTERVAL, make_timestamp_ns(traded_at)::TIMESTAMP) AS bucket
        FROM trades_between(of_symbols, start_ns, end_ns, of_feed)
    ),
    traded AS MATERIALIZED (
        SELECT feed, symbol, bucket,
            arg_min(price, (traded_at, conn, n, item)) AS open, max(price) AS high, min(price) AS low,
            arg_max(price, (traded_at, conn, n, item)) AS close,
            sum(size) AS volume, fsum(price::DOUBLE * size::DOUBLE) / fsum(size::DOUBLE) AS vwap, count(*) AS trades,
            coalesce(sum(size) FILTER (side = 'buy'), 0) AS buy_volume,
            coalesce(sum(size) FILTER (side = 'sell'), 0) AS sell_volume
        FROM bucketed
        GROUP BY ALL
    ),
    calendar AS (
        FROM (SELECT feed, symbol, bucket FROM traded)
        UNION
        SELECT feed, symbol, unnest(generate_series(min(bucket), max(bucket), every::INTERVAL))
        FROM traded
        WHERE fill
        GROUP BY feed, symbol
    ),
    broken AS MATERIALIZED (
        SELECT g.feed, unnest(CASE WHEN coalesce(len(g.symbols), 0) = 0 THEN of_symbols ELSE g.symbols END) AS symbol,
            g.ts_start, coalesce(g.ts_end, 9223372036854775807) AS ts_end
        FROM gaps AS g
        WHERE NOT coalesce(starts_with(g.repair, 'backfill:'), false)
    ),
    told AS (
        SELECT c.*, epoch_ns(c.bucket) AS ts_start, EXISTS (
            FROM broken AS g
            WHERE g.feed = c.feed AND g.symbol = c.symbol
              AND g.ts_start < epoch_ns(c.bucket + every::INTERVAL) AND g.ts_end >= epoch_ns(c.bucket)
        ) AS in_gap
        FROM calendar AS c
    ),
    carried AS (
        SELECT t.*, b.* EXCLUDE (feed, symbol, bucket), b.trades IS NULL AS empty, NOT (empty AND t.in_gap) AS known,
            last_value(b.close IGNORE NULLS) OVER (PARTITION BY t.feed, t.symbol ORDER BY t.bucket) AS lately
        FROM told AS t LEFT JOIN traded AS b USING (feed, symbol, bucket)
    )
    SELECT feed, symbol, ts_start,
        CASE WHEN known THEN coalesce(open, lately) END AS open,
        CASE WHEN known THEN coalesce(high, lately) END AS high,
        CASE WHEN known THEN coalesce(low, lately) END AS low,
        CASE WHEN known THEN lately END AS close,
        CASE WHEN known THEN coalesce(volume, 0) END AS volume,
        vwap,
        CASE WHEN known THEN coalesce(trades, 0) END AS trades,
        CASE WHEN known THEN coalesce(buy_volume, 0) END AS buy_volume,
        CASE WHEN known THEN coalesce(sell_volume, 0) END AS sell_volume,
        in_gap
    FROM carried
    ORDER BY feed, symbol, ts_start;

CREATE MACRO bars(of_symbol VARCHAR, start_ns, end_ns, every := '1 minute', fill := false, feed := NULL) AS TABLE
    (FROM bars_of([of_symbol], start_ns, end_ns, every, fill, feed)),
(of_symbol VARCHAR[], start_ns, end_ns, every := '1 minute', fill := false, feed := NULL) AS TABLE
    (FROM bars_of(of_symbol, start_ns, end_ns, every, fill, feed));

-- The price of all that was traded, weighted by size; NULL if nothing was.
CREATE MACRO vwap_of(of_symbol, start_ns, end_ns, of_feed) AS (
    SELECT CASE WHEN one_of(of_symbol, list(DISTINCT feed))
        THEN fsum(price::DOUBLE * size::DOUBLE) / fsum(size::DOUBLE) END
    FROM trades_between([of_symbol], start_ns, end_ns, of_feed)
);

CREATE MACRO vwap(of_symbol, start_ns, end_ns, feed := NULL) AS vwap_of(of_symbol, start_ns, end_ns, feed);

-- The price of the last trade up to a time; NULL before the first.
CREATE MACRO last_price_of(of_symbol, at_ns, of_feed) AS (
    SELECT CASE WHEN one_of(of_symbol, list(DISTINCT feed)) THEN arg_max(price, (traded_at, conn, n, item)) END
    FROM trades_between([of_symbol], 0, at_ns + 1, of_feed)
);

CREATE MACRO last_price_at(of_symbol, at_ns, feed := NULL) AS last_price_of(of_symbol, at_ns, feed);

-- Each trade with the best bid and ask before it: after the last frame that came before the trade's own. NULL where
-- the book was not known.
CREATE MACRO trades_with_quotes_of(of_symbol, start_ns, end_ns, of_feed) AS TABLE
    WITH merged AS (
        SELECT t.* EXCLUDE (date), NULL AS quote
        FROM trades_between([of_symbol], start_ns, end_ns, of_feed) AS t
        UNION ALL BY NAME
        SELECT q.feed, q.ts_recv AS traded_at, q.conn, coalesce(q.n, 0) AS n,
            {bid: q.bid, bid_size: q.bid_size, ask: q.ask, ask_size: q.ask_size} AS quote
        FROM top_of_book_of(of_symbol, start_ns - 1, end_ns, of_feed) AS q  -- what held before a trade at the very start
    ),
    quoted AS (
        SELECT * EXCLUDE (quote), quote IS NOT NULL AS is_quote,
            last_value(quote IGNORE NULLS) OVER (
                PARTITION BY feed ORDER BY traded_at, conn, n, quote IS NOT NULL, item
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS held
        FROM merged
    )
    SELECT ts_recv, ts_event, feed, symbol, conn, n, item, price, size, side, trade_id,
        held.bid, held.bid_size, held.ask, held.ask_size
    FROM quoted
    WHERE NOT is_quote
    ORDER BY feed, traded_at, conn, n, item;

CREATE MACRO trades_with_quotes(of_symbol, start_ns, end_ns, feed := NULL) AS TABLE
    FROM trades_with_quotes_of(of_symbol, start_ns, end_ns, feed);
