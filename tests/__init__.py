"""The tests and the simulated dom0 that they run on."""
