"""Many stores: which there are, and the export of each into its own file."""
