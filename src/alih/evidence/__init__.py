"""What was done, as entries that a stranger can check: canonical, numbered, hashed into a tree, signed."""
