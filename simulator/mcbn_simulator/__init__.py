"""A simulated Confidential Space for laptops and tests: IT MUST NEVER BE IN A PRODUCTION IMAGE.

Nothing here is a trusted execution environment. Whoever can reach the issuer's control socket obtains a token for any
claims at all, so a broker that trusts a simulated issuer protects nothing. Brokers and workloads never import this
package; a broker accepts its tokens only where every participant signed a manifest that names the simulated issuer.
"""

from mcbn_protocol import __version__

__all__ = ["__version__"]
