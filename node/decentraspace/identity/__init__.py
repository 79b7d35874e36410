"""Keys at rest, wallet logins and the delegations that let a session key act for a wallet."""
