"""ops/scan."""
