"""ops/ssd_scan."""
