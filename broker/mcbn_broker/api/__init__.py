"""The HTTP API that workloads speak, and the operator's health page beside it."""
