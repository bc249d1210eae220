"""Turns any Python value into plain JSON data: bounded, and without calling the value's own methods. Pure.

Known kinds become their fields, items or text. Any other object becomes the name of its type: its `repr` may
hold a key, take for ever or raise. Nothing is consumed: an iterator, a generator or a file is known by its
type only. Libraries are never imported: a value can only be of a library that is imported already.
"""

from tailrace.conversion.kinds import start
from tailrace.conversion.text import JsonText, as_text
from tailrace.conversion.walk import CIRCLE, DEEP, NODES, Conversion, TooLarge

__all__ = ["CIRCLE", "DEEP", "NODES", "Conversion", "JsonText", "TooLarge", "as_text", "start"]
