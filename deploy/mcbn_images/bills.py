"""Gives each image its bill of materials."""

from mcbn_images.images import Builder
from mcbn_images.oci import Image
from mcbn_images.sbom import bundled_bills, cyclonedx
from mcbn_images.tree import Kind


def bill_of(builder: Builder, name: str, image: Image) -> bytes:
    """Return the CycloneDX bill of an image: Debian packages, wheels and what is compiled into them, our own files.

    Args:
        builder: What the image was built by.
        name: Its name, such as `client`.
        image: The image.

    Raises:
        ImagesError: A lock, an input or the source is not as it must be.
    """
    wheels = builder.wheel_pins(name)
    own = builder.layers(name)[-1].entries.items()
    return cyclonedx(
        f"mcbn-{name}",
        image.digest,
        builder.definitions.version(),
        debs=builder.deb_pins,
        wheels=wheels,
        source={path: entry.data for path, entry in own if entry.kind is Kind.FILE},
        bundled=bundled_bills(builder.sources.get_wheels(wheels)),
    )
