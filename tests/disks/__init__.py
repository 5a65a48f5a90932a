"""Guests' disks: made by the tools that guests use, kept as the pages that are read of them, and spoilt."""
