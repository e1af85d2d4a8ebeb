"""The service's resources, with one typed method per endpoint."""
