"""The command line `mcbn-broker`: one module for each noun. Standard output is data, standard error is talk."""

from mcbn_broker.cli.root import app

__all__ = ["app"]
