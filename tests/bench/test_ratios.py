"""What a row says: who is better, how far rounds differ, whether a target is reached."""

from bench import figures, page, subjects
from bench.figures import Figures, Measured, Row
from bench.page import line
from bench.parts import ROOT

MORE = Row("frames", "frames/s", [200.0, 90.0, 120.0], "peer", [100.0, 100.0, 100.0], ratio_min=1.1)
LESS = Row("age", "µs", [50.0, 100.0], "peer", [100.0, 100.0], more_is_better=False, ours_max=80)


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    assert MORE.ratio == 1.2
    assert line("ingest", MORE)[3:] == ["120", "peer", "100", "1.20 (0.90–2.00)", "≥ 1.1×", "met"]


def test_less_may_be_better() -> None:
    assert LESS.ratio == 1.5
    assert LESS.met is True
    assert Row("age", "µs", [81.0], "peer", [100.0], more_is_better=False, ours_max=80).met is False


def test_a_missed_target_is_marked() -> None:
    missed = Row("frames", "frames/s", [100.0], "peer", [100.0], ratio_min=2, ours_min=90)
    assert missed.met is False
    assert line("ingest", missed)[-2:] == ["≥ 2×, ≥ 90", "**not met**"]
    assert line("ingest", Row("frames", "", failed="no room", ratio_min=2))[-1] == "**not met**"
    assert line("ingest", Row("frames", "", failed="no room"))[-1] == ""


def test_rounds_that_gave_nothing_make_no_ratio() -> None:
    assert Row("frames", "frames/s", [0.0], "peer", [10.0]).ratio is None


def test_before_and_now_stand_beside_each_other() -> None:
    before = Figures("2 cores", {"ingest": Measured([LESS])}, commit="abc1234")
    now = Figures("2 cores", {"ingest": Measured([Row("age", "µs", [25.0], "peer", [100.0], more_is_better=False)])})
    text = page.page(now, before, "")
    assert "Before (commit abc1234)" in text
    assert "| ingest | age | µs | peer | 75 | 1.50 (1.00–2.00) | 25 | 4.00 |" in text


def test_figures_of_another_machine_are_not_mixed_in(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "results.json"
    figures.save(path, Figures("64 cores, Plan 9", {"ingest": Measured([MORE])}))
    assert figures.kept(path).subjects == {}
    figures.save(path, Figures(figures.machine(), {"ingest": Measured([MORE])}))
    assert figures.kept(path).subjects["ingest"].rows == [MORE]


def test_the_page_is_what_was_measured() -> None:
    kept = ROOT / "docs/bench"
    found = figures.load(kept / "results.json")
    told = page.page(found, figures.load(kept / "before.json"), (kept / "reading.md").read_text())
    assert (ROOT / "BENCHMARKS.md").read_text() == told, "run `python -m bench --page-only`"
    known = [*subjects.SUBJECTS, subjects.MEMORY_LONG]
    assert list(found.subjects) == [name for name in known if name in found.subjects]
