"""The Debian package: its texts, its bytes, and what becomes of a dom0 where it is installed, upgraded and removed."""
