"""What the pytest plugin gives to tests: a simulated attestation service, and whole networks of real programs."""
