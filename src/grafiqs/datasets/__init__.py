"""The forms that face data sets come in: a small reader for each, behind one protocol."""
