"""Small signed records: encoding, verdict, resolution and the store."""
