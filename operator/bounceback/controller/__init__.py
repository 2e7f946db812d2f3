"""The operator: watches resources, and takes runs through their steps."""
