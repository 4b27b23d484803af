"""How a process of ours ends."""

import contextlib
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End with this exit code; where temporalio is loaded, without the interpreter's own end, which it can block.

    A call to Temporal that is answered just then waits for the interpreter, and the interpreter for it: seen in one of
    four runs of `ssmd up`, temporalio 1.35; https://github.com/temporalio/sdk-python/issues/300.
    """
    if "temporalio" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
