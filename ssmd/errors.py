"""The two failures: the world was busy, or the input (or we) are wrong."""


class SsmdError(Exception):
    """One sentence for the reader: what, which, where, what to do."""


class Transient(SsmdError):
    """The world was busy: try again."""


class Interrupted(SsmdError):
    """Somebody said to stop: what becomes of the work."""


class Permanent(SsmdError):
    """The input is wrong, or we are: trying again would give the same answer."""
