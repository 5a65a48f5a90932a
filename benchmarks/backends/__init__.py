"""What the backends of the guard cost, side by side."""
