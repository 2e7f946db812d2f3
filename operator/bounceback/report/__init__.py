"""Reports of experiments: pure functions from the object to text."""
