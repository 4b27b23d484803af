"""What is kept, read through: pure CPU and files, made to run in a process of its own; nothing is modified.

Each function gives findings, never errors: a scrub that stopped at the first damage would hide the second.
"""
