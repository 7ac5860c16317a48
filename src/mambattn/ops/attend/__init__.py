"""ops/attend."""
