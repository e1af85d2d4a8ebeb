"""Many stores: their definitions, and the export of each into its own file."""
