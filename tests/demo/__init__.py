"""What `make demo` shows and `make shell` prepares."""
