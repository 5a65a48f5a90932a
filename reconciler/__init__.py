"""WHAT TO DO, AND DOING IT: diff, plan and render are pure; converge, journal and cli are the shell."""

__version__ = "0.1.0"
FORMAT_VERSION = "1.0"  # of every JSON document that is printed or saved
