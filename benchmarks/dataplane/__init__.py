"""What the guard costs a frame, and what a change of it costs, beside other designs in one run."""
