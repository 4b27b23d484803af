"""Ten questions, asked of the lake and of the raw JSONL.gz by DuckDB alone: the same answers, row for row."""

from pathlib import Path

from bench import queries, query_day


def test_every_question_has_the_same_answer_of_both(tmp_path: Path) -> None:
    day = query_day.make(tmp_path, 60_000)
    assert day.rows >= 60_000
    with queries.over_raw(day) as raw:
        for question in queries.QUESTIONS:
            row = queries.asked(question, day, day.symbols[len(day.symbols) // 2], raw, None)
            assert len(row.ours) == len(row.theirs) == queries.ROUNDS
