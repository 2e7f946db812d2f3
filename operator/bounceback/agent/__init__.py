"""The program that carries out one plan beside its target, counts what it did, and undoes it by its own deadline."""
