"""The keys of the present and the next epoch: derived, leased, renewed and forgotten."""
