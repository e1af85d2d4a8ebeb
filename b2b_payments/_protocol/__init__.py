"""The service's protocol without I/O: plain functions that build requests and read answers."""
