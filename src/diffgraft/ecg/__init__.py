"""Electrocardiograms: leads, signals, statements, records of the public data sets, and folds."""
