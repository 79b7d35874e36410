"""What names stand for: the one way in which this node asks others what a name leads to, and remembers it."""
