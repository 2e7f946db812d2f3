"""Looking at the system: probes, observations, watched objects."""
