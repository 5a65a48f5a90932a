"""WHAT MAY BE SAID: the kinds of the repository, their values and their rules.

Pure: no I/O, no clock, no log. Nothing here knows that Xen or git exist as programs.
"""
