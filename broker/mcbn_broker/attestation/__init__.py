"""Attestation: from an unverified token to claims that the attestation service signed. It knows no policy."""
