"""The audit: a chain of records that shows when one was edited, deleted, reordered or cut off."""
