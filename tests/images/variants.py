"""Images that differ from the one that participants agreed on."""

import dataclasses

from mcbn_images.labels import OVERRIDE
from mcbn_images.oci import Image
from mcbn_images.tree import Tree


def with_a_file(image: Image) -> Image:
    """Put one more layer on top, with one more file in it."""
    tree = Tree()
    tree.add_file("etc/mcbn/one-more", b"")
    return dataclasses.replace(image, layers=(*image.layers, tree.archive()))


def with_a_label(image: Image) -> Image:
    """Let the operator set one variable more."""
    labels = image.config["Labels"]
    changed = {**labels, OVERRIDE: f"{labels[OVERRIDE]},LD_PRELOAD"}
    return dataclasses.replace(image, config={**image.config, "Labels": changed})
