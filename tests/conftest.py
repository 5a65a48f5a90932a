"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long a draw takes says how busy the machine is, and nothing about us: no test here fails for time.
settings.register_profile("domgit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("domgit")
