"""The data plane: worker processes that serve sites straight from the block store."""
