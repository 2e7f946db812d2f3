"""What became of each operation of a workload: told apart, counted, and judged. Pure, and the standard library only."""
