"""What an operator refuses to hold and to serve: denylists, own decisions, reports from others, a signed log."""
