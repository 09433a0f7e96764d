"""Scores of samples: how far they are from the target, with the floor that perfect samples would score."""
