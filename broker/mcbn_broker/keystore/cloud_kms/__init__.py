"""A key-encryption key that Google Cloud KMS wraps."""
