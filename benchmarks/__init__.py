"""Measurements against what people would use instead: ratios within one run, never a threshold in a test."""
