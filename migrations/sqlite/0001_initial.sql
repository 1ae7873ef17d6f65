-- The relay's database on SQLite. Migrations are numbered and append-only: a
-- change is a new file, and one that removes something comes a release after
-- the one that stopped using it.
--
-- Times: milliseconds since the Unix epoch where validity depends on them, days
-- since the epoch everywhere else. Tables whose row order would tell who did
-- what at the same time are WITHOUT ROWID or have random row ids.

CREATE TABLE meta (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    -- Rises when the relay was restored from a backup.
    mailbox_epoch   INTEGER NOT NULL,
    -- Grows with every change that can end somebody's sessions.
    auth_generation INTEGER NOT NULL,
    -- Seed of the Ed25519 key that signs tokens.
    token_seed      BLOB NOT NULL,
    -- Keys the hashes under which sends are remembered, so that those of one
    -- send cannot be told to belong together.
    privacy_key     BLOB NOT NULL
) STRICT;

CREATE TABLE accounts (
    id                  BLOB PRIMARY KEY,
    account_key         BLOB NOT NULL,
    -- AccountStatus and Role, as on the wire.
    status              INTEGER NOT NULL,
    role                INTEGER NOT NULL,
    access_key_sha256   BLOB NOT NULL,
    -- SignedBlob "device-list".
    device_list         BLOB NOT NULL,
    device_list_version INTEGER NOT NULL,
    -- CertificateChain and what the relay needs of it; NULL until certified.
    certificate         BLOB,
    certificate_serial  BLOB,
    issuer_serial       BLOB,
    certified_until_ms  INTEGER,
    handle              TEXT UNIQUE
) STRICT, WITHOUT ROWID;

CREATE INDEX accounts_by_certificate ON accounts (certificate_serial);
CREATE INDEX accounts_by_issuer ON accounts (issuer_serial);

-- A removed device stays, so that it can be told that it was.
CREATE TABLE devices (
    id              INTEGER PRIMARY KEY,
    account         BLOB NOT NULL REFERENCES accounts (id),
    device          INTEGER NOT NULL,
    identity_key    BLOB NOT NULL,
    registration_id INTEGER NOT NULL,
    device_key      BLOB NOT NULL,
    -- Tokens carry it; raising it ends every session of the device.
    auth_epoch      INTEGER NOT NULL,
    removed         INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account, device)
) STRICT;

-- One row a device: the next sequence number and what the mailbox holds.
CREATE TABLE mailboxes (
    device     INTEGER PRIMARY KEY REFERENCES devices (id),
    next_seq   INTEGER NOT NULL DEFAULT 1,
    held       INTEGER NOT NULL DEFAULT 0,
    held_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Row ids are random: ids in order of arrival would lay the rows of one send
-- side by side, and who was written to together is membership.
CREATE TABLE envelopes (
    id             INTEGER PRIMARY KEY,
    mailbox        INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    stored_day     INTEGER NOT NULL,
    size           INTEGER NOT NULL,
    sender_account BLOB NOT NULL,
    sender_device  INTEGER NOT NULL,
    type           INTEGER NOT NULL,
    ciphertext     BLOB NOT NULL
) STRICT;

-- Covers draining by size, acknowledging and expiring without touching a ciphertext.
CREATE UNIQUE INDEX envelopes_in_order ON envelopes (mailbox, seq, stored_day, size);

-- Accepted sends, by keyed hash of (sender device, send id, recipient).
CREATE TABLE sends (
    key         BLOB PRIMARY KEY,
    content     BLOB NOT NULL,
    stored_day  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Signed and last-resort prekeys, one row a device.
CREATE TABLE signed_prekeys (
    device           INTEGER PRIMARY KEY REFERENCES devices (id),
    signed_id        INTEGER,
    signed_public    BLOB,
    signed_signature BLOB,
    kyber_id         INTEGER,
    kyber_public     BLOB,
    kyber_signature  BLOB
) STRICT;

-- One-time prekeys. A taken one keeps its id for a while, without the key, so
-- that the id is not given out again.
CREATE TABLE one_time_prekeys (
    device     INTEGER NOT NULL REFERENCES devices (id),
    -- 0: Curve25519, 1: Kyber-1024.
    kind       INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    public_key BLOB,
    signature  BLOB,
    taken_day  INTEGER,
    PRIMARY KEY (device, kind, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX one_time_prekeys_held ON one_time_prekeys (device, kind, id)
    WHERE public_key IS NOT NULL;

-- Invites by hash of their secret. Who made one is in the sealed request, which
-- only the issuer can read, and not here.
CREATE TABLE invites (
    id             BLOB PRIMARY KEY,
    role           INTEGER NOT NULL,
    expires_at_ms  INTEGER NOT NULL,
    sealed_request BLOB NOT NULL,
    used_by        BLOB
) STRICT, WITHOUT ROWID;

CREATE INDEX invites_by_user ON invites (used_by) WHERE used_by IS NOT NULL;

-- What waits on the issuer's desk; gone once decided.
CREATE TABLE enrolments (
    account BLOB PRIMARY KEY REFERENCES accounts (id),
    -- EnrolmentRequest as received.
    request BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE issuers (
    serial       BLOB PRIMARY KEY,
    -- SignedBlob "issuer".
    blob         BLOB NOT NULL,
    not_after_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    -- RevocationBundle.
    bundle BLOB NOT NULL
) STRICT;
