"""The guard: bindings in, a complete packet filter out, one module per backend. Pure."""
