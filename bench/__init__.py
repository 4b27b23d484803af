"""Figures of this machine, each beside the obvious way to do the same in the same run."""
