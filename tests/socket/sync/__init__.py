"""Tests of keeping a copy in step with a sandbox."""
