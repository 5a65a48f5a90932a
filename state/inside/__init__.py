"""What is inside a guest's disk: readers of partitions and file systems, run in an unprivileged child alone.

Everything that they read was written by somebody else's root. They are plain arithmetic on bytes of known places: no
tool is started, nothing is mounted, and no text of a guest's leaves them that is not of a narrow alphabet.
"""

# What the child is started as. Who holds a disk in use is not it: see state.files.
MODULE = "state.inside.child"
