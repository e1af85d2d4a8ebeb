"""The command line. Only this package names click and rich."""
