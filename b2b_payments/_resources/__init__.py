"""The service's resources, one typed method an endpoint."""
