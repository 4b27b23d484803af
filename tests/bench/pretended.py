"""Subjects that go wrong."""

import os
import time

from bench.figures import Measured
from bench.size import Size


def raising(size: Size) -> Measured:
    raise ValueError("the disk is on fire")


def endless(size: Size) -> Measured:
    time.sleep(60)
    return Measured()


def dying(size: Size) -> Measured:
    os._exit(9)
