"""WHAT TO DO, AND DOING IT: diff, plan and render are pure; converge, journal and cli are the shell."""

__version__ = "0.1.0"
