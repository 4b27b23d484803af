"""The questions users ask, of Parquet and of raw JSONL.gz: what `bench.queries` measures, as a subject."""

import importlib
import importlib.util

import msgspec

from bench import parts
from bench.figures import Measured, Row
from bench.size import Size


def run(size: Size) -> Measured:
    if importlib.util.find_spec("bench.queries") is None:
        raise parts.Failed("there is no bench/queries.py in this tree")
    queries = importlib.import_module("bench.queries")
    with parts.scratch() as folder:
        return Measured(msgspec.convert(queries.run(folder, size.rows), list[Row], from_attributes=True))
