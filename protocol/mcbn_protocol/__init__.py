"""What both sides of a release agree on: encodings, signed documents, sealing, key schedule.

Pure functions and values: no I/O, no clock, no randomness of its own.
"""

__version__ = "0.1.0"
