"""`export --stores`: many stores at once, each into its own file."""
