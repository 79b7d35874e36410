"""What is in config/deploy/, with the real programs it is for."""
