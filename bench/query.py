"""The questions users ask, of Parquet and of raw JSONL.gz: measured by `bench.queries`."""

import importlib

from bench import parts
from bench.figures import Measured
from bench.size import Size


def run(size: Size) -> Measured:
    try:
        queries = importlib.import_module("bench.queries")
    except ModuleNotFoundError:
        raise parts.Failed("there is no bench/queries.py in this tree") from None
    with parts.scratch() as folder:
        found = queries.run(folder, size.rows)
    return found if isinstance(found, Measured) else Measured(list(found))
