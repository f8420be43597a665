"""How participants come to an agreement: consent key, terms, draft, signatures, bundle. No terminal here."""
