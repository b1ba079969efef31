"""Benchmarks: one file an op or system, each figure beside that of the plain form in the same run."""
