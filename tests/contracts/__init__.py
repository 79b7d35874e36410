"""The contracts' artifacts on real chains; what the contracts do is tested by forge, in contracts/test."""
