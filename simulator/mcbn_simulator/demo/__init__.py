"""The whole system at work on one machine: every process is a real executable, and nothing is left behind."""
