"""Mutation testing of the core: one small change of the product at a time, and whether a test notices."""
