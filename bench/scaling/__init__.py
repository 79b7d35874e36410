"""A model of networks that are too large to run: nodes, sites and their copies as numbers, not processes."""
