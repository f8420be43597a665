"""TCP forwarding through channels: plaintext on loopback or a unix socket, ciphertext everywhere else."""
