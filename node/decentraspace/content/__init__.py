"""UnixFS, CAR and the block store: everything between bytes and CIDs."""
