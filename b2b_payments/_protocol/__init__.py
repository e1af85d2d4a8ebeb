"""The service's protocol without I/O: requests are built and answers are read here, as plain functions."""
