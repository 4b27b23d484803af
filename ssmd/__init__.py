"""The language every part of ssmd shares: frames, events, names, files, jobs and the command line."""

__version__ = "0.1.0"
