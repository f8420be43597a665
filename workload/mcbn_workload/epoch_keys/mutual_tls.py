"""An epoch's keys for mutual TLS: both roles' keys, the CA's, and this run's certificate."""

import datetime as dt
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol.identifiers import Role
from mcbn_protocol.key_schedule import Purpose, derive
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_protocol.secret import Secret
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.channels.certificates import (
    Authority,
    PrivateKey,
    Validity,
    authority_from_files,
    credentials,
    derived_authority,
)
from mcbn_workload.channels.engine import Engine, EngineFactory
from mcbn_workload.channels.mutual_tls import MutualTlsClient, MutualTlsKeys, MutualTlsServer
from mcbn_workload.channels.psk import Terms
from mcbn_workload.epoch_keys.epoch import LeaseEndedError, SharesRefusedError
from mcbn_workload.epoch_keys.openers import LiveChannels, Material, WatchMaker, no_watch
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.rsa_keys import RsaKeyError, derive_rsa_key
from mcbn_workload.settings import CertificateSettings

_RSA_SEEDS: Final = {Role.SERVER: Purpose.SERVER_RSA_SEED, Role.CLIENT: Purpose.CLIENT_RSA_SEED}
_ED25519_SEEDS: Final = {Role.SERVER: Purpose.SERVER_ED25519_SEED, Role.CLIENT: Purpose.CLIENT_ED25519_SEED}
_OTHER: Final = {Role.SERVER: Role.CLIENT, Role.CLIENT: Role.SERVER}


class MutualTlsChannel:
    """One epoch's keys and certificates, for one role."""

    psk = None

    def __init__(self, keys: MutualTlsKeys) -> None:
        self.keys: Final = keys
        self.terms: Final = Terms(watch=keys.watch)
        self.identity: Final = keys.peer
        self.names: Final = {"own_key": keys.own, "peer_key": keys.peer}  # the far end has them the other way round
        self._client: MutualTlsClient | None = None

    def client_engine(self) -> Engine:
        """Return the engine of a new channel."""
        if self._client is None:
            self._client = MutualTlsClient(self.keys)
        return self._client()


class MutualTlsOpener:
    """Channels of the kind `mtls13`."""

    slow = True  # an RSA key of 3072 bits takes a third of a second with gmpy2, and two without

    def __init__(self, role: Role, settings: CertificateSettings, clock: Clock, watch: WatchMaker = no_watch) -> None:
        """Read the CA, if it comes with the image.

        Raises:
            ConfigurationError: Its files are no CA.
        """
        self._role = role
        self._names = settings.names or (f"mcbn-{role.value}",)
        self._clock = clock
        self._watch = watch
        self._authority: Authority | None = None
        if settings.ca_certificate is not None and settings.ca_key is not None:
            self._authority = authority_from_files(settings.ca_certificate, settings.ca_key)

    def derive(self, material: Material) -> MutualTlsChannel:
        """Derive both roles' keys, and make this run's certificate.

        Raises:
            ConfigurationError: The manifest has no terms for mutual TLS.
            SharesRefusedError: The scheme makes no key of this epoch's seeds.
            LeaseEndedError: By this machine's clock the manifest has ended.
        """
        agreed, secret = material.agreed, material.secret
        terms = agreed.manifest.mutual_tls
        if terms is None:
            raise ConfigurationError("the manifest has no mutual_tls: it does not allow the channel mtls13")
        validity = self._validity(agreed)
        own, other, authority = (
            _key(terms, derive(secret, purpose, agreed.hash, agreed.manifest.epoch))
            for purpose in (_seed(terms, self._role), _seed(terms, _OTHER[self._role]), _authority_seed(terms))
        )
        signer = self._authority or derived_authority(authority, validity)
        shown = credentials(self._role, own, signer, names=self._names, validity=validity)
        return MutualTlsChannel(MutualTlsKeys(shown, other.public_key(), self._watch(agreed)))

    def server(self, live: LiveChannels) -> EngineFactory:
        """Return what makes the server's engines."""
        return MutualTlsServer(lambda: [one.keys for one in live() if isinstance(one, MutualTlsChannel)])

    def _validity(self, agreed: AgreedManifest) -> Validity:
        now, until = self._clock.wall(), agreed.manifest.valid_until
        if until <= now:
            raise LeaseEndedError(
                (), f"the manifest of epoch {agreed.manifest.epoch} has ended by this machine's clock"
            )
        return Validity(dt.datetime.fromtimestamp(int(now), dt.UTC), dt.datetime.fromtimestamp(until, dt.UTC))


def _seed(terms: MutualTlsTerms, role: Role) -> Purpose:
    if terms.insecure_shared_key:
        return Purpose.SHARED_RSA_SEED
    return (_RSA_SEEDS if terms.leaf is LeafKind.RSA else _ED25519_SEEDS)[role]


def _authority_seed(terms: MutualTlsTerms) -> Purpose:
    return Purpose.CA_RSA_SEED if terms.leaf is LeafKind.RSA else Purpose.CA_ED25519_SEED


def _key(terms: MutualTlsTerms, seed: Secret) -> PrivateKey:
    if terms.scheme is None or terms.bits is None:
        return Ed25519PrivateKey.from_private_bytes(seed.reveal())
    try:
        return derive_rsa_key(terms.scheme, seed, terms.bits)
    except RsaKeyError as error:
        raise SharesRefusedError(f"{error}. The participants have to open a new epoch with fresh shares") from error
