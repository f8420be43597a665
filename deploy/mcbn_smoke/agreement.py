"""On what the three participants of the smoke test agree: its two images, on this cloud's hardware, in this project."""

from typing import Final

from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import (
    DBGSTAT_PRODUCTION,
    ConfidentialSpaceReference,
    SupportAttribute,
    ValueRule,
)
from mcbn_simulator.compose.layouts import BuiltImage
from mcbn_simulator.demo.images import ADDRESS_VARIABLES
from mcbn_simulator.demo.participants import NAMES
from mcbn_simulator.demo.terms import terms_text
from mcbn_smoke.cloud import Site

RESTART_POLICY: Final = "Never"
_HEAD: Final = """\
valid_days = 1
overlap_seconds = 0
scheme = "hkdf-sha256"
channels = ["tls13-psk"]
kems = ["mlkem768-x25519"]
"""


def terms(site: Site, images: dict[Role, BuiltImage], *, lease_seconds: int) -> str:
    """Return the terms file.

    Args:
        site: The cloud.
        images: What plays each role.
        lease_seconds: How long a lease lasts.
    """
    authorities = "".join(f'[brokers.{name}]\ntls_ca_file = "ca.pem"\n' for name in NAMES)
    references = {role: _reference(role, image, site) for role, image in images.items()}
    return terms_text(references, lease_seconds=lease_seconds, head=_HEAD + authorities, instances=1)


def _reference(role: Role, image: BuiltImage, site: Site) -> ConfidentialSpaceReference:
    """The reference values of a role: as for production, unless the debug image of Confidential Space was asked for."""
    return ConfidentialSpaceReference(
        issuer=site.issuer,
        root=None,
        image_digests=(image.digest,),
        image_signatures=None,
        hwmodels=(site.hwmodel,),
        dbgstat="enabled" if site.debug else DBGSTAT_PRODUCTION,
        support_attribute=SupportAttribute.NONE if site.debug else SupportAttribute.STABLE,
        args=(*image.entrypoint, *image.cmd),
        env=image.env,
        env_override={
            ADDRESS_VARIABLES[role]: ValueRule("*:*", is_pattern=True),
            "MCBN_MANIFEST": ValueRule("https://*", is_pattern=True),
        },
        restart_policies=(RESTART_POLICY,),
        monitoring_memory=False,
        project_numbers=(site.project_number,),
        instance_ids=None,
        service_accounts=None,
        insecure_debug=site.debug,
    )
