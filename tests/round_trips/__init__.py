"""What we render, read back: for any accepted specification it means what was meant, and nothing else."""
