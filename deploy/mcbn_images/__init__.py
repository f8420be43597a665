"""Builds the images that participants trust, so that anyone gets the same digest. Standard library only.

`python3 -m mcbn_images` with `deploy/` on PYTHONPATH runs it without installing anything.
"""
