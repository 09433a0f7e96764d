"""Pages: records of a run in, one self-contained HTML file out. Imports no torch and computes no result."""
