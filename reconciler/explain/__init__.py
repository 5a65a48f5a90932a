"""What the guard does with one frame, and why: from its own rules and the bindings, without a kernel. Pure."""
