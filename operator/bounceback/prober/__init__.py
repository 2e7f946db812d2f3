"""The program of a prober pod: carries out a check's workload beside the system, and accounts for it."""
