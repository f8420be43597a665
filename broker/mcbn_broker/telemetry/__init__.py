"""What a broker tells its operator: structured logs and metrics. Never a secret, never a whole token."""
