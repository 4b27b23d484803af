-- Books at a time and over time, over the views book_snapshots, book_deltas, sessions and gaps; see docs/lake.md.
--
-- Times are ns since the epoch, `end_ns` not included. Conditions on `date` say again what those on `ts_recv` do: by
-- them DuckDB leaves whole files unopened. A macro's parameter hides columns of its name: those with `feed` only hand
-- it on, as `of_feed`.

-- For answers that are one: which feed is meant must be known.
CREATE MACRO one_of(of_symbol, feeds) AS CASE
    WHEN len(feeds) > 1
    THEN error(format('{} is in the feeds {}: say which one, with feed := ''{}''', of_symbol,
        array_to_string(list_sort(feeds), ', '), list_sort(feeds)[1]))
    ELSE true
END;

-- A connection and its successors share a place, and the gaps between them.
CREATE MACRO place_of(conn) AS regexp_replace(conn, '-[0-9a-f]{11,}-[0-9a-f]{4}$', '');

-- The books of an instrument that held at some time of [start_ns, end_ns): each begins with a snapshot and ends with
-- the next one, on whatever connection. It is known until a gap of its connection's place begins that concerns the
-- instrument, or its connection ends; one that is not said to have ended says each 30 s that it is alive. (A refused
-- subscription is no such gap: it brings no snapshot. Only tests have connections without sessions.)
-- If the connection subscribed to `book.N`, the book is N levels deep on each side.
CREATE MACRO books_between(of_symbol, start_ns, end_ns, of_feed) AS TABLE
    WITH following AS (
        SELECT b.feed, b.conn, b.n, b.item, b.ts_recv,
            row_number() OVER ordered AS book,
            lead({ts_recv: b.ts_recv, conn: b.conn, n: b.n, item: b.item}) OVER ordered AS next
        FROM book_snapshots AS b
        WHERE b.symbol = of_symbol AND b.ts_recv < end_ns AND b.date <= make_timestamp_ns(end_ns - 1)::DATE
          AND (of_feed IS NULL OR b.feed = of_feed)
        WINDOW ordered AS (PARTITION BY b.feed ORDER BY b.ts_recv, b.conn, b.n, b.item)
    ),
    books AS MATERIALIZED (
        FROM following WHERE next IS NULL OR next.ts_recv >= start_ns
    ),
    connections AS MATERIALIZED (
        SELECT o.feed, o.session AS conn,
            coalesce(min(o.ts_recv) FILTER (o.type = 'close'), max(o.ts_recv) + 60_000_000_000) + 1 AS ended,
            max(list_max(list_transform(
                from_json(o.detail -> '$.subscription.channels', '["VARCHAR"]'),
                lambda channel: nullif(regexp_extract(channel, '^book\.([0-9]+)$', 1), '')::INTEGER
            ))) FILTER (o.type = 'connected') AS depth
        FROM sessions AS o
        WHERE o.conn = o.session AND (o.feed, o.session) IN (SELECT (feed, conn) FROM books)
        GROUP BY ALL
    ),
    broken AS MATERIALIZED (
        SELECT feed, place_of(session) AS place, ts_start
        FROM gaps
        WHERE cause <> 'refused' AND (coalesce(len(symbols), 0) = 0 OR list_contains(symbols, of_symbol))
    ),
    breaks AS (
        SELECT k.feed, k.book, min(g.ts_start) AS since
        FROM books AS k JOIN broken AS g ON g.feed = k.feed AND g.place = place_of(k.conn) AND g.ts_start >= k.ts_recv
        GROUP BY ALL
    )
    SELECT k.feed, k.book, k.conn, k.n, k.item, k.ts_recv, k.next, c.depth, least(b.since, c.ended) AS known_until
    FROM books AS k LEFT JOIN connections AS c USING (feed, conn) LEFT JOIN breaks AS b USING (feed, book);

-- The last snapshot up to a time starts the book anew; after it, on the same connection, each level is what the
-- deltas added to it (`change`) or what the last of them says stands there (`size`), and an empty level is gone.
-- If the connection subscribed to `book.N`, the venue keeps N levels a side up to date and does not delete what falls
-- out below them (Kraken): a level that did is gone, unless it was sent again.
CREATE MACRO book_at_of(of_symbol, at_ns, of_feed) AS TABLE
    WITH latest AS MATERIALIZED (
        SELECT * FROM books_between(of_symbol, at_ns, at_ns + 1, of_feed) WHERE next IS NULL
    ),
    start AS MATERIALIZED (
        SELECT k.* FROM latest AS k
        WHERE one_of(of_symbol, (SELECT list(l.feed) FROM latest AS l)) AND coalesce(k.known_until > at_ns, true)
    ),
    whole AS (  -- apart from `start`: its levels would be carried through the join with every delta
        SELECT b.bids, b.asks
        FROM book_snapshots AS b, start AS s
        WHERE b.symbol = of_symbol AND b.feed = s.feed AND b.conn = s.conn AND b.n = s.n AND b.item = s.item
    ),
    levels AS MATERIALIZED (
        SELECT side, price, size, absolute, n, n * 1048576 + item AS place  -- more than any frame's events
        FROM (
            SELECT 'bid' AS side, unnest(bids, recursive := true), 0 AS n, 0 AS item, true AS absolute FROM whole
            UNION ALL BY NAME
            SELECT 'ask' AS side, unnest(asks, recursive := true), 0 AS n, 0 AS item, true AS absolute FROM whole
            UNION ALL BY NAME
            SELECT d.side, d.price, coalesce(d.size, d.change) AS size, d.n, d.item, d.size IS NOT NULL AS absolute
            FROM book_deltas AS d, start AS s
            WHERE d.symbol = of_symbol AND d.ts_recv <= at_ns AND d.date <= make_timestamp_ns(at_ns)::DATE
              AND d.feed = s.feed AND d.conn = s.conn
              AND d.n >= s.n  -- follows from the next, but by this alone DuckDB leaves out what came before
              AND (d.n, d.item) > (s.n, s.item)
        )
    ),
    priced AS MATERIALIZED (
        SELECT side, price, max(place) FILTER (absolute) AS known,
            row_number() OVER (PARTITION BY side ORDER BY CASE WHEN side = 'bid' THEN -price ELSE price END) AS rank
        FROM levels
        GROUP BY side, price
    ),
    book AS (
        SELECT side, price, any_value(rank) AS rank, sum(size) AS size
        FROM levels JOIN priced USING (side, price)
        WHERE known IS NULL OR place >= known
        GROUP BY side, price
        HAVING sum(size) <> 0
    ),
    standing AS (
        SELECT side, unnest(standing_of(list(change ORDER BY place), list(n ORDER BY place), any_value(depth))) AS rank
        FROM (
            SELECT l.side, l.n, l.place, s.depth, CASE WHEN l.size <> 0 THEN p.rank ELSE -p.rank END AS change
            FROM levels AS l JOIN priced AS p USING (side, price), start AS s
            WHERE s.depth IS NOT NULL
        )
        GROUP BY side
    )
    SELECT (SELECT s.feed FROM start AS s) AS feed, side, price, size
    FROM book
    WHERE (SELECT depth FROM start) IS NULL OR (side, rank) IN (SELECT (s.side, s.rank) FROM standing AS s)
    ORDER BY side DESC, CASE WHEN side = 'bid' THEN -price ELSE price END;

CREATE MACRO book_at(of_symbol, at_ns, feed := NULL) AS TABLE
    SELECT side, price, size FROM book_at_of(of_symbol, at_ns, feed);

-- What happened to the books that held in [start_ns, end_ns), from their snapshots on, as long as they were known: a row
-- for each frame's every level, and one more for each snapshot, which may have none.
CREATE MACRO book_events(of_symbol, start_ns, end_ns, of_feed) AS TABLE
    WITH books AS MATERIALIZED (
        FROM books_between(of_symbol, start_ns, end_ns, of_feed)
    ),
    snapshots AS (
        SELECT k.feed, k.book, b.ts_recv, b.n, b.n * 1048576 + b.item AS place, b.bids, b.asks
        FROM book_snapshots AS b JOIN books AS k USING (feed, conn, n, item)
        WHERE b.symbol = of_symbol AND b.date <= make_timestamp_ns(end_ns - 1)::DATE
    ),
    deltas AS (
        SELECT d.feed, k.book, d.ts_recv, d.n, d.n * 1048576 + d.item AS place, d.side, d.price, d.size, d.change
        FROM book_deltas AS d ASOF JOIN books AS k
          ON d.feed = k.feed AND d.conn = k.conn AND d.n * 1048576 + d.item >= k.n * 1048576 + k.item
        WHERE d.symbol = of_symbol AND d.ts_recv < end_ns AND d.date <= make_timestamp_ns(end_ns - 1)::DATE
          AND d.ts_recv >= (SELECT min(ts_recv) FROM books)
          AND (k.next IS NULL OR {ts_recv: d.ts_recv, conn: d.conn, n: d.n, item: d.item} < k.next)
          AND (k.known_until IS NULL OR d.ts_recv < k.known_until)
    )
    SELECT feed, book, ts_recv, n, place FROM snapshots
    UNION ALL BY NAME
    SELECT feed, book, ts_recv, n, place, 'bid' AS side, unnest(bids, recursive := true) FROM snapshots
    UNION ALL BY NAME
    SELECT feed, book, ts_recv, n, place, 'ask' AS side, unnest(asks, recursive := true) FROM snapshots
    UNION ALL BY NAME
    FROM deltas;

-- The best bid and ask from `ts_recv` to `ts_until`: one row for each change in [start_ns, end_ns), and before them
-- the one that held when it began. After each frame, never within it. A row without a frame (`n`) says that from there
-- on nothing is known, until the next snapshot.
CREATE MACRO top_of_book_of(of_symbol, start_ns, end_ns, of_feed) AS TABLE
    WITH books AS MATERIALIZED (
        FROM books_between(of_symbol, start_ns, end_ns, of_feed)
    ),
    events AS MATERIALIZED (
        FROM book_events(of_symbol, start_ns, end_ns, of_feed)
    ),
    prices AS (
        SELECT side, price,
            row_number() OVER (PARTITION BY side ORDER BY CASE WHEN side = 'bid' THEN -price ELSE price END) AS rank
        FROM (SELECT DISTINCT side, price FROM events WHERE side IS NOT NULL)
    ),
    levels AS MATERIALIZED (  -- what stands at a level after each event: what it says, or all changes until then
        SELECT e.feed, e.book, e.ts_recv, e.n, e.side, e.price, p.rank,
            CASE WHEN e.change IS NULL THEN e.size ELSE
                sum(coalesce(e.size, e.change)) OVER (PARTITION BY e.feed, e.book, e.side, e.price ORDER BY e.place)
            END AS size,
            row_number() OVER ordered AS step,
            lead(e.n) OVER ordered IS DISTINCT FROM e.n AS whole
        FROM events AS e LEFT JOIN prices AS p USING (side, price)
        WINDOW ordered AS (PARTITION BY e.feed, e.book ORDER BY e.place)
    ),
    histories AS (
        SELECT feed, book, list(n ORDER BY step) AS frames,
            list(CASE WHEN side = 'bid' THEN change END ORDER BY step) AS bids,
            list(CASE WHEN side = 'ask' THEN change END ORDER BY step) AS asks
        FROM (SELECT *, CASE WHEN size <> 0 THEN rank ELSE -rank END AS change FROM levels)
        GROUP BY ALL
    ),
    best AS (
        SELECT h.feed, h.book, unnest(range(1, len(h.frames) + 1)) AS step,
            unnest(best_of(h.bids, h.frames, coalesce(k.depth, 0))) AS bid_step,
            unnest(best_of(h.asks, h.frames, coalesce(k.depth, 0))) AS ask_step
        FROM histories AS h JOIN books AS k USING (feed, book)
    ),
    tops AS (
        SELECT l.feed, l.ts_recv, k.conn, l.n,
            b.price AS bid, b.size AS bid_size, a.price AS ask, a.size AS ask_size
        FROM levels AS l
        JOIN best AS t USING (feed, book, step)
        JOIN books AS k USING (feed, book)
        LEFT JOIN levels AS b ON b.feed = t.feed AND b.book = t.book AND b.step = t.bid_step
        LEFT JOIN levels AS a ON a.feed = t.feed AND a.book = t.book AND a.step = t.ask_step
        WHERE l.whole
        UNION ALL BY NAME
        SELECT feed, known_until AS ts_recv, conn
        FROM books
        WHERE known_until < coalesce(next.ts_recv, end_ns)
    ),
    changes AS (
        FROM tops
        QUALIFY {bid: bid, bid_size: bid_size, ask: ask, ask_size: ask_size, known: n IS NOT NULL} IS DISTINCT FROM
            lag({bid: bid, bid_size: bid_size, ask: ask, ask_size: ask_size, known: n IS NOT NULL}) OVER
                (PARTITION BY feed ORDER BY ts_recv, conn, coalesce(n, 0))
    )
    SELECT c.feed, of_symbol AS symbol, c.ts_recv, c.conn, c.n, c.bid, c.bid_size, c.ask, c.ask_size,
        coalesce(lead(c.ts_recv) OVER (PARTITION BY c.feed ORDER BY c.ts_recv, c.conn, coalesce(c.n, 0)), end_ns)
            AS ts_until
    FROM changes AS c
    QUALIFY c.ts_recv >= start_ns OR ts_until > start_ns
    ORDER BY c.feed, c.ts_recv, c.conn, coalesce(c.n, 0);

CREATE MACRO top_of_book(of_symbol, start_ns, end_ns, feed := NULL) AS TABLE
    FROM top_of_book_of(of_symbol, start_ns, end_ns, feed);

-- One row: the best bid and ask after the last frame up to a time.
CREATE MACRO top_of_book_at_of(of_symbol, at_ns, of_feed) AS TABLE
    SELECT any_value(feed) AS feed, of_symbol AS symbol,
        max(price) FILTER (side = 'bid') AS bid, arg_max(size, price) FILTER (side = 'bid') AS bid_size,
        min(price) FILTER (side = 'ask') AS ask, arg_min(size, price) FILTER (side = 'ask') AS ask_size
    FROM book_at_of(of_symbol, at_ns, of_feed);

CREATE MACRO top_of_book_at(of_symbol, at_ns, feed := NULL) AS TABLE
    FROM top_of_book_at_of(of_symbol, at_ns, feed);
