"""The same frames through the rules of well-known systems and through ours: what leaks, and what legal is lost."""
