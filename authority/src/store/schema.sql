-- The authority's own database, version 1. Encrypted as a whole (SQLCipher).

-- Which clinic it belongs to.
CREATE TABLE meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    deployment BLOB NOT NULL
) STRICT;

-- The authority's own invites. Those made by clients come sealed, and are not kept.
CREATE TABLE invites (
    id BLOB PRIMARY KEY,
    -- 32 bytes; empty once redeemed or over.
    secret BLOB NOT NULL,
    role INTEGER NOT NULL,
    inviter BLOB,
    inviter_access_key BLOB,
    handle TEXT,
    display_name TEXT,
    relay_url TEXT NOT NULL,
    relay_key BLOB,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    -- The caller's own name for this invite: the same name gives the same invite again.
    once TEXT UNIQUE,
    -- When the relay took it; NULL: still to be admitted.
    admitted_at_ms INTEGER
) STRICT;

-- Who redeemed an invite, of whichever kind: one key, for ever.
CREATE TABLE redemptions (
    invite BLOB PRIMARY KEY,
    account BLOB NOT NULL,
    account_key BLOB NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

-- Everybody certified here.
CREATE TABLE accounts (
    id BLOB PRIMARY KEY,
    account_key BLOB NOT NULL,
    role INTEGER NOT NULL,
    handle TEXT,
    display_name TEXT,
    -- Newest device list seen (SignedBlob): the relay cannot show an older one.
    device_list BLOB NOT NULL,
    revoked_at_ms INTEGER
) STRICT;
-- A handle is one person's, until that account is revoked.
CREATE UNIQUE INDEX accounts_handle ON accounts (handle) WHERE revoked_at_ms IS NULL;

-- Every certificate signed; the newest of an account counts.
CREATE TABLE certificates (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    serial BLOB NOT NULL UNIQUE,
    account BLOB NOT NULL REFERENCES accounts (id),
    issuer BLOB NOT NULL,
    not_before_ms INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL,
    -- CertificateChain, exactly as sent.
    chain BLOB NOT NULL,
    -- When the relay took it; NULL: still to be sent.
    delivered_at_ms INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try_at_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX certificates_account ON certificates (account, number);

-- What was decided about enrolments, and why. No names.
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    account BLOB NOT NULL,
    decision TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

-- What no longer counts.
CREATE TABLE revocations (
    kind INTEGER NOT NULL,
    id BLOB NOT NULL,
    revoked_at_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;

-- Every revocation list signed or taken over from the relay.
CREATE TABLE revocation_lists (
    number INTEGER PRIMARY KEY,
    -- RevocationBundle, exactly as sent.
    bundle BLOB NOT NULL,
    entries INTEGER NOT NULL,
    issued_at_ms INTEGER NOT NULL,
    next_update_ms INTEGER NOT NULL,
    published_at_ms INTEGER
) STRICT;
