"""How long it takes to read and check a repository, to plan for a host, and to start."""
