"""Benchmarks: what the models are worth, and how fast they are, with the command that gives each figure."""
