"""The library compared with other clients: the same work, in the same run, each in its own process."""
