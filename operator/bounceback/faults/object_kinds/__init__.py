"""What an objectFault does to its target, one class a kind: from the object as it is to the changes, purely."""
