"""The commented terms file that `manifest template` prints."""

import json
import re
from typing import Final

from mcbn_protocol.reference_values import PRODUCTION_ISSUER

PLACEHOLDER: Final = re.compile(r"FILL_IN_[A-Z_]+")
"""What has to be replaced before a draft can be made."""

_HEAD: Final = """\
# The terms of the next epoch. Fill in every FILL_IN_..., agree on the file with the other participants, then run
# `mcbn-broker manifest draft`. Unknown names are refused; lists of values must be sorted and without repeats.

valid_days = 30                  # from the time of drafting; or: valid_until = 2030-01-31T12:00:00Z (no quotes)
# valid_from = 2030-01-01T12:00:00Z   # default: the time of drafting
overlap_seconds = 86400          # how long after valid_from the epoch before still serves; 0 when revoking
scheme = "hkdf-sha256"           # all participants' shares are needed
lease_seconds = 3600             # a paused consent ends channels within this time
channels = ["tls13-psk"]         # also "tls12-psk" (old peers), "dtls12-psk" (UDP), "mtls13" (with the table below)
kems = ["mlkem768-x25519", "x25519"]  # preferred first
# insecure_http = true           # brokers on plain HTTP beyond loopback; shown loudly to whoever signs

# A broker's address comes from its participant's card. Only where that has changed, or where the broker's certificate
# is not from a public authority:
# [brokers.alice]
# url = "https://broker.alice.example"
# tls_ca_file = "alice-ca.pem"   # beside this file

# Only with the channel mtls13: the keys that both ends derive for their certificates.
# [mutual_tls]
# leaf = "rsa"                   # or "ed25519", which has neither scheme nor bits
# scheme = "c2sp-det-keygen"     # or "gnutls-provable"
# bits = 3072                    # or 2048, 4096
"""

_ROLE: Final = """
[roles.{role}]
instances = 1                    # how many VMs may hold a lease at once

[[roles.{role}.evidence]]         # one table for each kind of machine that may play this role
kind = "confidential-space"
issuer = {issuer}
# root = "64 hex digits"        # SHA-256 of the attestation root's certificate: then PKI tokens only, else OIDC only
image_digests = ["FILL_IN_{upper}_IMAGE_DIGEST"]  # "sha256:" and 64 digits, from your own build of the image
# image_signatures = [{{ key_id = "64 hex digits", signature_algorithm = "ECDSA_P256_SHA256" }}]  # besides or instead
hwmodels = ["GCP_AMD_SEV", "GCP_INTEL_TDX"]
dbgstat = "disabled-since-boot"  # never a debug image
swname = "CONFIDENTIAL_SPACE"
secboot = true
support_attribute = "STABLE"     # the lowest that is admitted
args = ["FILL_IN_{upper}_ENTRYPOINT"]  # entry point and arguments of the image, exactly, one string for each
env = {{ PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }}  # the image's own, without HOSTNAME
restart_policies = ["Never"]     # of Always, Never, OnFailure
monitoring_memory = false
project_numbers = ["FILL_IN_PROJECT_NUMBER"]  # the operator's; or the word "any", without a list
# instance_ids = ["1234567890"]  # only these VMs
# service_accounts = ["workload@project.iam.gserviceaccount.com"]  # exactly this list

[roles.{role}.evidence.env_override]  # what the operator may set: {{ value = "exact" }} or {{ pattern = "*:8443" }}
{address} = {{ pattern = "*:*" }}  # where the encrypted channel is
MCBN_MANIFEST = {{ pattern = "{urls}" }}  # the manifest's place; its signatures decide
# MCBN_BROKER_ALICE = {{ pattern = "{urls}" }}  # one for each broker whose address the operator may replace
MCBN_LOG_LEVEL = {{ pattern = "*" }}
"""


def terms_template(simulated_issuer: str | None) -> str:
    """Return the template; with the URL of a simulated issuer, the terms trust it instead of Google's service."""
    urls = "https://*" if simulated_issuer is None else "http://127.0.0.1:*"
    issuer = json.dumps(PRODUCTION_ISSUER if simulated_issuer is None else simulated_issuer)  # a TOML string too
    roles = (("client", "MCBN_CONNECT"), ("server", "MCBN_LISTEN"))
    return _HEAD + "".join(
        _ROLE.format(role=role, upper=role.upper(), issuer=issuer, address=address, urls=urls)
        for role, address in roles
    )
