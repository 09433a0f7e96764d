"""Readers of a user's data files; `catalog.read` picks the one that fits."""
