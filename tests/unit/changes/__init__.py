"""The feed of changes, without a socket."""
