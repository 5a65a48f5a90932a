"""Real frames against the real kernel: who may send what through the guard."""
