"""What must stay true of one broker, as a small model: it knows the design document and nothing of the broker's code.

The model does not say in which order a broker looks at things. For each request it gives the set of all reasons to say
no: a release is right exactly when the set is empty, and a refusal when its code is in the set.
"""

import copy
from dataclasses import dataclass, field

TOKEN_AGE_MAX = 300
TOKEN_SECONDS = 3600
CLOCK_LEEWAY = 60


@dataclass(frozen=True)
class Terms:
    """The part of an agreed manifest that decides about releases. `name` is its hash."""

    name: bytes
    epoch: int
    previous: bytes | None
    valid_from: int
    valid_until: int
    overlap: int
    instances: int
    lease: int
    kems: tuple[str, ...]


@dataclass(frozen=True)
class Issued:
    """A challenge that the broker issued, in which of its lives, for what, and until when."""

    text: str
    life: int
    role: str
    manifest: bytes
    expires_at: int


@dataclass(frozen=True)
class Request:
    """A release request, as its maker knows it."""

    challenge: Issued
    role: str
    terms: Terms
    instance: int
    kem: str
    token_is_authentic: bool
    token_issued_at: int
    workload_is_agreed: bool


@dataclass
class Database:
    """What lies in the database, and so in each copy of it."""

    life: int = 0
    sequence: int = 0
    allowed: bool = False
    lowest: int = 0
    accepted: dict[int, Terms] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    shares: set[int] = field(default_factory=set)
    leases: dict[tuple[str, int], int] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)

    @property
    def highest(self) -> int:
        """The highest epoch ever accepted, as far as this database knows."""
        return max([self.lowest, *self.accepted])

    def may_serve(self) -> list[Terms]:
        """What is accepted, was not retired, and is not ruled out by what the anchor remembered."""
        return [one for epoch, one in self.accepted.items() if epoch not in self.retired and epoch >= self.lowest]

    def others(self, role: str, instance: int, now: int) -> int:
        """How many other VMs hold a lease of a role."""
        return sum(
            until > now for (leased, holder), until in self.leases.items() if leased == role and holder != instance
        )


@dataclass
class Model:
    """One participant's broker: its database, and what lies outside of it and outlives it.

    Attributes:
        lives: How many lives began.
        ever_spent: Every challenge that was ever answered after a good signature, in any life. It outlives the
            database, but for one known limit: refusals beyond the record budget leave no record, so a copy that lacks
            nothing else is not recognised as older, and what they spent is as it was.
        anchored_epoch: The highest epoch that the anchor remembers.
        keys: The epochs whose keys exist; a destroyed one never comes back.
    """

    database: Database = field(default_factory=Database)
    lives: int = 0
    ever_spent: set[str] = field(default_factory=set)
    anchored_epoch: int = 0
    keys: set[int] = field(default_factory=set)

    # -- which manifest serves

    def serving(self, terms: Terms, now: int) -> str | None:
        """Why nothing is released under these terms at a time, or None: only the highest begun, or its previous."""
        candidates = self.database.may_serve()
        if terms not in candidates:
            return "manifest_not_accepted"
        if now < terms.valid_from:
            return "manifest_not_valid_now"
        current = max((one for one in candidates if one.valid_from <= now), key=lambda one: one.epoch)
        if terms == current:
            return None if now < terms.valid_until else "manifest_not_valid_now"
        overlapped = terms.epoch == current.epoch - 1 and now < current.valid_from + current.overlap
        return None if overlapped and now < terms.valid_until else "manifest_not_accepted"

    def serves_until(self, terms: Terms, now: int) -> int:
        """When these terms, which serve now, stop doing so if nothing else is agreed on."""
        later = [one for one in self.database.may_serve() if one.epoch > terms.epoch]
        moments = {terms.valid_until, *(one.valid_from for one in later)}
        moments |= {one.valid_from + one.overlap for one in later}
        return min(moment for moment in moments if moment > now and self.serving(terms, moment) is not None)

    # -- what is asked

    def before_signature(self, request: Request, now: int) -> set[str]:
        """The reasons to say no without spending anything."""
        issued = request.challenge
        asked = (self.database.life, request.role, request.terms.name)
        token_age = now - request.token_issued_at
        in_time = -CLOCK_LEEWAY <= token_age <= TOKEN_AGE_MAX
        reasons = {
            "challenge_not_issued": (issued.life, issued.role, issued.manifest) != asked,
            "challenge_expired": now >= issued.expires_at,
            "not_in_manifest": request.kem not in request.terms.kems,
            "token_not_authentic": not request.token_is_authentic or not in_time,
            "internal": request.terms.epoch not in self.keys,
        }
        return {code for code, holds in reasons.items() if holds} | self.unserved(request.terms, now)

    def unserved(self, terms: Terms, now: int) -> set[str]:
        """The reason why these terms do not serve, as a set."""
        code = self.serving(terms, now)
        return set() if code is None else {code}

    def after_signature(self, request: Request, now: int) -> set[str]:
        """The reasons to say no, and to spend the challenge."""
        others = self.database.others(request.role, request.instance, now)
        reasons = {
            "challenge_used": request.challenge.text in self.ever_spent,
            "appraisal_failed": not request.workload_is_agreed,
            "consent_paused": not self.database.allowed,
            "instances_exceeded": others >= request.terms.instances,
        }
        return {code for code, holds in reasons.items() if holds}

    def spend(self, request: Request) -> None:
        """Note that a request was answered after a good signature."""
        self.database.spent.add(request.challenge.text)
        self.ever_spent.add(request.challenge.text)

    def release(self, request: Request, now: int) -> int:
        """Note a release, and return the lease that goes with it."""
        seconds = min(request.terms.lease, self.serves_until(request.terms, now) - now)
        holder = (request.role, request.instance)
        self.database.leases[holder] = max(self.database.leases.get(holder, 0), now + seconds)
        return seconds

    # -- what the participant does

    def acceptable(self, terms: Terms, now: int) -> bool:
        """Whether a manifest, rightly signed and with fresh shares, may become the highest accepted one."""
        database = self.database
        highest = max(database.accepted, default=0)
        follows = terms.epoch != highest + 1 or not highest or terms.previous == database.accepted[highest].name
        ours = terms.epoch in database.shares & self.keys
        rises = terms.epoch > highest and terms.epoch >= database.lowest
        return now < terms.valid_until and rises and follows and ours

    def make_share(self, epoch: int) -> None:
        """Note that a share was made."""
        self.database.shares.add(epoch)
        self.keys.add(epoch)

    def accept(self, terms: Terms, now: int) -> None:
        """Note that a manifest was accepted; what it supersedes for good is retired."""
        self.database.accepted[terms.epoch] = terms
        self.anchored_epoch = max(self.anchored_epoch, terms.epoch)
        self.retire(now)

    def retire(self, now: int) -> None:
        """Retire what is superseded for good, and destroy the keys that nothing can need any more."""
        database = self.database
        left = [one for epoch, one in database.accepted.items() if epoch not in database.retired]
        begun = [one for one in left if one.valid_from <= now]
        for one in begun:
            newest = max(begun, key=lambda begun_one: begun_one.epoch)
            overlapped = one.epoch == newest.epoch - 1 and now < min(
                newest.valid_from + newest.overlap, one.valid_until
            )
            if one != newest and not overlapped:
                database.retired.add(one.epoch)
        live = {one.epoch for one in left} - database.retired
        self.keys = {
            epoch for epoch in self.keys if epoch >= database.lowest and (epoch >= database.highest or epoch in live)
        }

    def tidy(self, now: int) -> None:
        """Retire, and forget leases that ended."""
        self.retire(now)
        self.database.leases = {holder: until for holder, until in self.database.leases.items() if until > now}

    # -- what happens to the database

    def copy(self) -> Database:
        """What a backup holds."""
        return copy.deepcopy(self.database)

    def put_back(self, backup: Database | None, *, anchor_lost: bool) -> bool:
        """Note that the database was replaced. Whatever is older than the anchor begins a new life, paused."""
        before, self.database = self.database, copy.deepcopy(backup) if backup is not None else Database(life=-1)
        now_there = (self.database.life, self.database.sequence)
        if now_there == (before.life, before.sequence) and not anchor_lost:
            self.ever_spent -= before.spent - self.database.spent  # the known limit; else the two are the same
            return False
        self.lives += 1
        self.database.life = self.lives
        self.database.allowed = False
        if anchor_lost:
            self.anchored_epoch = self.database.highest
        self.database.lowest = self.database.lowest if anchor_lost else self.anchored_epoch
        return True
