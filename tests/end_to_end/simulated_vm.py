"""Runs the workload with the certificate authorities of an image's root directory instead of this machine's.

Run as `python -I simulated_vm.py ROOT ARGUMENT...`. In a VM the image's root directory is the root directory.
"""

import os
import ssl
import sys
from pathlib import Path

from mcbn_workload.__main__ import main


def use_authorities_of(root: Path) -> None:
    """Look for authorities where the image has them: the workload asks OpenSSL where that is."""
    paths = ssl.get_default_verify_paths()._replace(
        openssl_cafile=str(root / "usr/lib/ssl/cert.pem"), openssl_capath=str(root / "usr/lib/ssl/certs")
    )
    ssl.get_default_verify_paths = lambda: paths


if __name__ == "__main__":
    use_authorities_of(Path(sys.argv[1]))
    sys.argv[:2] = ["mcbn-workload"]
    os.umask(0o077)
    main()
