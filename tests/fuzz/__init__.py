"""A mutation fuzzer over everything that domgit reads: `python -m tests.fuzz`. README.md tells how it works and what to do with a finding."""
