"""What was used, by whom: counters now, charges later."""
