"""ops/conv."""
