"""Preparers: programs that turn logs into raw data with a schema."""
