"""The library beside its rivals: the same work, in the same run, each in a process of its own."""
