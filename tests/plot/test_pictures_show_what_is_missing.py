"""`ssmd plot`: prices, books and a month's coverage, with every gap in its place and its cause in the legend."""

import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.dates import num2date
from matplotlib.figure import Figure
from typer.testing import CliRunner

from activities.processes import Processes
from ssmd import lake, ledger, plot, timeline
from ssmd.cli import build
from ssmd.errors import Permanent
from ssmd.events import Gap
from tests.lake import plain
from tests.lake.archives import DATE, FEED, GOLD, HOUR, ArchivedDay, midnight
from tests.lake.talks import Case, Talked, talked
from tests.plot.months import MONTH, a_month

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Talked:
    with Processes(1) as processes:
        return talked(tmp_path_factory.mktemp("kraken"), processes, Case("kraken", ("book.10", "trade")))


@pytest.fixture(scope="module")
def shown(day: Talked) -> plot.Range:
    return plot.Range(day.feed, day.symbols[0], day.start - 10 * SECOND, day.end + 10 * SECOND)


@pytest.fixture
def opened(day: Talked) -> Iterator[lake.Lake]:
    with lake.open(day.data) as one:
        yield one


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("month")
    a_month(data)
    return data


def missing_of(day: Talked, shown: plot.Range) -> list[tuple[str, tuple[int, int]]]:
    [recorded] = ledger.recorded(day.data / "archive", day.feed)
    return plot.missing(recorded, shown, time.time_ns())


def ssmd(*arguments: object) -> None:
    done = CliRunner().invoke(build(), [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def shaded(figure: Figure, colour: str) -> list[tuple[int, int]]:
    """From when to when (in tenths of a second), in the first axes."""
    from matplotlib.colors import to_hex
    from matplotlib.patches import Rectangle

    found = []
    for patch in figure.axes[0].patches:
        if isinstance(patch, Rectangle) and to_hex(patch.get_facecolor()) == colour and patch.get_height() == 1:
            ends = patch.get_x(), patch.get_x() + patch.get_width()
            found.append(tuple(round(num2date(x).timestamp() * 10) for x in ends))
    return sorted(found)  # type: ignore[arg-type]


def test_a_gap_of_one_frame_is_still_to_be_seen(
    tmp_path: Path, day: Talked, shown: plot.Range, opened: lake.Lake
) -> None:
    """It begins and ends at the same moment: no time is missing, but a frame is, and the book is unknown."""
    at = midnight(DATE) + HOUR
    one = ArchivedDay(DATE, FEED, "kalshi-0-0198964b3f2-7f3a").session("open").trade(GOLD, "0.5100", "7.00")
    one.at(1).gap(Gap("g1", FEED, one.conn, [GOLD], at, at, "parse", "not JSON")).session("close", frames=one.n + 1)
    one.write(tmp_path / "archive")
    [recorded] = ledger.recorded(tmp_path / "archive", FEED)
    found = plot.missing(recorded, plot.Range(FEED, GOLD, at - SECOND, at + SECOND), time.time_ns())
    assert ("parse", (at, at)) in found
    figure = plot.price(opened, shown, [("parse", (day.broken, day.broken))])
    assert len(shaded(figure, timeline.COLOURS["parse"])) == 1
    assert "gap: parse" in words(figure)


@pytest.mark.parametrize("draw", [plot.price, plot.depth])
def test_gaps_are_shaded_where_they_are(day: Talked, shown: plot.Range, opened: lake.Lake, draw: object) -> None:
    figure: Figure = draw(opened, shown, missing_of(day, shown))  # type: ignore[operator]
    tenth = SECOND // 10
    gap = (round(day.broken / tenth), round(day.mended / tenth))
    assert shaded(figure, timeline.COLOURS["sequence"]) == [gap]
    before, after = shaded(figure, plot.UNCOVERED)
    assert (before[0], after[1]) == (round(shown.start / tenth), round(shown.end / tenth))
    assert (before[1], after[0]) == (round(day.start / tenth), round((day.end - 1) / tenth))
    assert words(figure)[-2:] == ["gap: sequence", "uncovered"]
    assert figure.axes[0].get_ylabel().startswith("price (")
    assert "time (UTC)" in [axes.get_xlabel() for axes in figure.axes]


def test_sampled_books_are_those_of_the_frames(day: Talked, shown: plot.Range, opened: lake.Lake) -> None:
    times = [shown.start + i * SECOND // 2 for i in range(1, 120)]
    quotes = plain.quotes(day.data, day.feed, shown.symbol)
    for book in plot.sampled(opened, shown, times):
        before = [top for ts, _, _, top in quotes if ts < book.ts]
        expected = before[-1] if before else plain.UNKNOWN
        if book.sides is None:
            assert expected == plain.UNKNOWN
            continue
        bid, ask = max(book.sides["bid"], default=None), min(book.sides["ask"], default=None)
        found = (bid, book.sides["bid"].get(bid or 0), ask, book.sides["ask"].get(ask or 0))
        assert found == tuple(None if x is None else float(x) for x in expected)
        assert all(len(levels) <= 10 for levels in book.sides.values())


def test_a_price_is_where_its_trade_was(day: Talked, shown: plot.Range, opened: lake.Lake) -> None:
    figure = plot.price(opened, shown, [])
    closes = next(line for line in figure.axes[0].lines if line.get_marker() == ".")
    last, step = {}, SECOND  # of 60 s it is the first that makes no more than 300 bars
    for frame, trade in plain.trades(day.data, day.feed, shown.symbol):
        last[frame.ts // step * step + step // 2] = float(Decimal(trade.price))
    xs = np.asarray(closes.get_xdata()).astype("int64")
    assert dict(zip(xs.tolist(), np.asarray(closes.get_ydata()).tolist(), strict=True)) == last


def test_a_month_has_a_cell_for_each_day_and_its_causes(month: Path) -> None:
    [recorded] = ledger.recorded(month / "archive", FEED)
    figure = plot.month(recorded, 2026, 8, time.time_ns())
    assert words(figure) == [
        "covered",
        *(f"gap: {cause}" for cause in ("restart", "sequence", "checksum", "parse", "overflow")),
        "uncovered",
        "no data",
    ]
    [axes] = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:2] == ["all instruments", GOLD], "the worst first"
    assert len(axes.get_xticks()) == 31
    hatched = {int(bar.get_x()) + 1 for bar in axes.patches if bar.get_hatch()}  # type: ignore[attr-defined]
    assert hatched == {1, 2, 9, *range(21, 32)}


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_commands_write_whole_pictures_the_same_each_time(
    day: Talked, month: Path, tmp_path: Path, suffix: str
) -> None:
    symbol, instant = day.symbols[0], "%Y-%m-%dT%H:%M:%S"
    start, end = (time.strftime(instant, time.gmtime(at // SECOND)) for at in (day.start, day.end + SECOND))
    at = ["--start", start, "--end", end, "--data", day.data]
    for name, arguments in (
        ("price", ["price", day.feed, symbol, *at]),
        ("depth", ["depth", day.feed, symbol, *at]),
        ("day", ["price", day.feed, symbol, day.date, "--data", day.data]),
        ("month", ["coverage", FEED, MONTH, "--data", month]),
    ):
        pictures = [tmp_path / f"{name}{i}.{suffix}" for i in range(2)]
        for picture in pictures:
            ssmd("plot", *arguments, "--to", picture)
        first, second = (picture.read_bytes() for picture in pictures)
        assert first == second
        if suffix == "png":
            assert first.startswith(b"\x89PNG") and len(first) > 10_000
            continue
        text = " ".join("".join(ElementTree.fromstring(first).itertext()).split())
        wanted = (day.feed, symbol, "gap: sequence", "time (UTC)") if name != "month" else (FEED, "August 2026", "gap:")
        assert all(word in text for word in wanted), text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["price", "kraken", "BTC/USD", "2026-08-11", "--to", "x.gif"], "pictures are PNG or SVG; name it x.png"),
        (["price", "kraken", "BTC/USD", "2026-08-11", "--to", "no/x.png"], "there is no folder no"),
        (["price", "kraken", "BTC/USD", "--to", "x.png"], "name a date (2026-11-20, today), or --start and --end"),
        (["depth", "kraken", "BTC/USD", "soon", "--to", "x.png"], "'soon' is no date"),
        (["depth", "kraken", "NONE", "2026-08-11", "--to", "x.png"], "kraken has no book with two sides of NONE"),
        (["price", "kraken", "NONE", "2026-08-11", "--to", "x.png"], "kraken has no trades and no book of NONE"),
        (["price", "nyse", "NONE", "2026-08-11", "--to", "x.png"], "nothing of 'nyse' is archived"),
        (["coverage", "kraken", "2026-13", "--to", "x.png"], "'2026-13' is no month: write it as 2026-11"),
        (["coverage", "kraken", "2026-01", "--to", "x.png"], "is archived of 2026-01: there is 2026-08"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(day: Talked, arguments: list[str], said: str) -> None:
    with pytest.raises(Permanent) as refused:
        ssmd("plot", *arguments, "--data", day.data)
    assert said in str(refused.value)
    assert not Path("x.png").exists()


def test_without_matplotlib_one_sentence_says_how_to_get_it() -> None:
    program = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "matplotlib":
            raise ModuleNotFoundError(name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "matplotlib" else found(name, package)
sys.meta_path.insert(0, Without())
from ssmd.cli import main
main(["plot", "price", "kraken", "BTC/USD", "today", "--to", "x.png"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "error: matplotlib, which draws, is not installed: run `pip install 'ssmd[plot]'`\n"
