"""What is shown on real Xen alone: whole scenarios, in the order of the files' names, over guests that are started once."""
