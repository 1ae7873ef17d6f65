-- One device's profile. Times are milliseconds since the Unix epoch; ids and keys are raw bytes.

-- Who this device is. One row from the moment keys exist.
CREATE TABLE own (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- enrolling, linking, pending, active, rejected, revoked
    state TEXT NOT NULL,
    deployment BLOB NOT NULL,
    relay_url TEXT NOT NULL,
    relay_key_sha256 BLOB,
    root_fingerprint BLOB NOT NULL,
    root_key BLOB,
    account BLOB NOT NULL,
    device INTEGER NOT NULL,
    role INTEGER NOT NULL,
    registration_id INTEGER NOT NULL,
    -- private: Curve25519 identity, Ed25519 device and account keys (the latter on the primary alone)
    identity_key BLOB NOT NULL,
    device_key BLOB NOT NULL,
    account_key BLOB,
    -- for HMACs that never leave the profile
    local_key BLOB NOT NULL,
    access_key BLOB NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    name_version INTEGER NOT NULL DEFAULT 0,
    -- the invite that brought us here, until its Hello is queued
    invite_secret BLOB,
    inviter BLOB,
    inviter_key_sha256 BLOB,
    inviter_access_key BLOB,
    hello_queued INTEGER NOT NULL DEFAULT 0,
    mailbox_epoch INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
);

-- Everyone whose certificate and list were verified, ourselves included.
CREATE TABLE accounts (
    account BLOB PRIMARY KEY,
    -- the pinned Ed25519 account key
    account_key BLOB NOT NULL,
    role INTEGER NOT NULL,
    handle TEXT,
    display_name TEXT,
    -- CertificateChain and SignedBlob "device-list" as received
    certificate BLOB NOT NULL,
    device_list BLOB NOT NULL,
    list_version INTEGER NOT NULL,
    access_key BLOB,
    profile_name TEXT,
    profile_version INTEGER NOT NULL DEFAULT 0,
    -- version of our own profile that they were last told
    profile_told INTEGER NOT NULL DEFAULT 0,
    -- our own private name for them
    label TEXT,
    -- self, request, accepted, blocked
    relation TEXT NOT NULL,
    -- whether `account_key` was compared by safety number
    verified INTEGER NOT NULL DEFAULT 0,
    -- whether a new key waits for a person's decision
    change_pending INTEGER NOT NULL DEFAULT 0,
    -- the contact's state machine, encoded; NULL for our own account
    contact BLOB,
    -- why sending stopped; NULL while it has not
    halted TEXT,
    fetched_at INTEGER NOT NULL,
    first_seen_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sessions (
    account BLOB NOT NULL,
    device INTEGER NOT NULL,
    -- identity key the sessions were made with, 33 bytes
    identity_key BLOB NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (account, device)
) WITHOUT ROWID;

-- kind: 1 signed, 2 one-time, 3 one-time Kyber, 4 last-resort Kyber. Kyber kinds share their ids.
CREATE TABLE prekeys (
    kind INTEGER NOT NULL,
    id INTEGER NOT NULL,
    record BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- mailbox epoch of the upload that the relay confirmed; NULL before
    uploaded_epoch INTEGER,
    -- set when a newer one took its place (signed, last-resort)
    replaced_at INTEGER,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;

CREATE TABLE prekey_ids (
    -- 1 signed, 2 one-time, 3 Kyber
    counter INTEGER PRIMARY KEY,
    next INTEGER NOT NULL
);

-- Base keys already accepted under a last-resort Kyber prekey.
CREATE TABLE used_base_keys (
    kyber_id INTEGER NOT NULL,
    signed_id INTEGER NOT NULL,
    base_key_sha256 BLOB NOT NULL,
    PRIMARY KEY (kyber_id, signed_id, base_key_sha256)
) WITHOUT ROWID;

CREATE TABLE conversations (
    conversation BLOB PRIMARY KEY,
    -- direct, group
    kind TEXT NOT NULL,
    -- the other side of a direct conversation
    peer BLOB,
    title TEXT NOT NULL DEFAULT '',
    title_salt BLOB,
    -- request, open, left
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_local_id INTEGER NOT NULL DEFAULT 0,
    read_local_id INTEGER NOT NULL DEFAULT 0,
    -- the next sequence number this device gives out
    next_sequence INTEGER NOT NULL DEFAULT 1,
    -- what the membership log says, for lists and queries: refreshed with every operation
    timer_seconds INTEGER NOT NULL DEFAULT 0,
    ai_on INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;

-- The signed membership log, in the order in which it can be replayed.
CREATE TABLE operations (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE,
    conversation BLOB NOT NULL,
    -- encoded signed operation
    operation BLOB NOT NULL,
    -- whether its device was still on its account's list when it arrived
    current INTEGER NOT NULL,
    received_at INTEGER NOT NULL
);
CREATE INDEX operations_by_conversation ON operations (conversation, position);

-- Certificates and device lists that operations lean on, so that joiners can be given them.
CREATE TABLE evidence (
    account BLOB NOT NULL,
    list_hash BLOB NOT NULL,
    list_version INTEGER NOT NULL,
    account_key BLOB NOT NULL,
    device_list BLOB NOT NULL,
    PRIMARY KEY (account, list_hash)
) WITHOUT ROWID;

CREATE TABLE members (
    conversation BLOB NOT NULL,
    account BLOB NOT NULL,
    owner INTEGER NOT NULL,
    PRIMARY KEY (conversation, account)
) WITHOUT ROWID;

-- Sequence numbers seen, per sender device and conversation: the gap tracker's state.
CREATE TABLE sequences (
    conversation BLOB NOT NULL,
    account BLOB NOT NULL,
    device INTEGER NOT NULL,
    state BLOB NOT NULL,
    -- while something is missing: since when, when it was asked for, whether people were told
    missing_since INTEGER,
    asked_at INTEGER,
    told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, account, device)
) WITHOUT ROWID;

-- What people see, received and own, in stored order. AUTOINCREMENT: an id is never used again.
CREATE TABLE messages (
    local_id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation BLOB NOT NULL,
    content_id BLOB NOT NULL,
    sender BLOB NOT NULL,
    sender_device INTEGER NOT NULL,
    own INTEGER NOT NULL,
    -- encoded content
    content BLOB NOT NULL,
    kind TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    -- encoded content of the newest edit
    edit BLOB,
    deleted INTEGER NOT NULL DEFAULT 0,
    read_at INTEGER,
    -- when a disappearing timer removes it
    disappears_at INTEGER
);
CREATE UNIQUE INDEX messages_by_content ON messages (sender, content_id);
CREATE INDEX messages_by_conversation ON messages (conversation, local_id);
CREATE INDEX messages_by_disappearance ON messages (disappears_at) WHERE disappears_at IS NOT NULL;

CREATE TABLE reactions (
    conversation BLOB NOT NULL,
    target BLOB NOT NULL,
    account BLOB NOT NULL,
    emoji TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (conversation, target, account)
) WITHOUT ROWID;

-- Content ids already dealt with, shown or not: a re-sent content is taken once.
CREATE TABLE seen (
    sender BLOB NOT NULL,
    content_id BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (sender, content_id)
) WITHOUT ROWID;

-- Own contents as long as they may have to be encrypted again.
CREATE TABLE sent (
    content_id BLOB PRIMARY KEY,
    conversation BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    content BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- 1 when a person sees it and its delivery
    shown INTEGER NOT NULL
) WITHOUT ROWID;

-- Devices that a content was first encrypted for.
CREATE TABLE addressed (
    content_id BLOB NOT NULL,
    account BLOB NOT NULL,
    device INTEGER NOT NULL,
    ciphertext_sha256 BLOB NOT NULL,
    PRIMARY KEY (content_id, account, device)
) WITHOUT ROWID;
CREATE INDEX addressed_by_ciphertext ON addressed (ciphertext_sha256);

-- One row a recipient account, until the relay has accepted it.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content_id BLOB NOT NULL,
    account BLOB NOT NULL,
    -- only this device needs it (a re-send); 0 for all
    device INTEGER NOT NULL DEFAULT 0,
    -- 0 to be encrypted, 1 encrypted
    ready INTEGER NOT NULL DEFAULT 0,
    send_id BLOB,
    -- encoded SendRecipient
    ciphertexts BLOB,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    -- why it waits for somebody; NULL when it does not
    waiting TEXT
);
CREATE INDEX outbox_by_account ON outbox (account, id);
CREATE INDEX outbox_by_send ON outbox (send_id);

-- Where each shown own message stands with each recipient account.
CREATE TABLE deliveries (
    content_id BLOB NOT NULL,
    account BLOB NOT NULL,
    state TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (content_id, account)
) WITHOUT ROWID;

-- Envelopes that wait for the sender's certificate and list.
CREATE TABLE parked (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account BLOB NOT NULL,
    device INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    ciphertext BLOB NOT NULL,
    -- 0 the sender's account is unknown, 1 the device is not on the list we have
    reason INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX parked_by_account ON parked (account, id);

-- Envelopes that were given up, without their content.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account BLOB NOT NULL,
    device INTEGER NOT NULL,
    ciphertext_sha256 BLOB NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
);

-- Contents that name operations we do not have, until those arrive.
CREATE TABLE deferred (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation BLOB NOT NULL,
    account BLOB NOT NULL,
    device INTEGER NOT NULL,
    content BLOB NOT NULL,
    received_at INTEGER NOT NULL
);
CREATE INDEX deferred_by_conversation ON deferred (conversation, id);

-- Rate limits that must survive a restart: retry requests, operation requests.
CREATE TABLE throttles (
    name TEXT NOT NULL,
    key BLOB NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (name, key)
) WITHOUT ROWID;

CREATE TABLE notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    account BLOB,
    conversation BLOB,
    detail TEXT NOT NULL DEFAULT ''
);

-- Questions for an AI endpoint.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    local_id INTEGER NOT NULL,
    conversation BLOB NOT NULL,
    -- 0 waiting, 1 done
    done INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
);
CREATE INDEX jobs_waiting ON jobs (id) WHERE done = 0;

-- Invites this client made; the label is private.
CREATE TABLE invites (
    invite_id BLOB PRIMARY KEY,
    secret BLOB NOT NULL,
    role INTEGER NOT NULL,
    label TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    redeemed_by BLOB
) WITHOUT ROWID;

CREATE TABLE revocations (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    bundle BLOB NOT NULL,
    number INTEGER NOT NULL,
    fetched_at INTEGER NOT NULL
);

-- Access keys we were told before the account's record was known.
CREATE TABLE introductions (
    account BLOB PRIMARY KEY,
    access_key BLOB NOT NULL
) WITHOUT ROWID;

-- What another own device said of a contact whose record is not here yet.
CREATE TABLE synced_contacts (
    account BLOB PRIMARY KEY,
    contact BLOB NOT NULL
) WITHOUT ROWID;

-- The next number for account-level content to an account.
CREATE TABLE account_sequences (
    account BLOB PRIMARY KEY,
    next INTEGER NOT NULL
) WITHOUT ROWID;

-- Operations that wait for a device list or for what came before them.
CREATE TABLE waiting_operations (
    hash BLOB PRIMARY KEY,
    conversation BLOB NOT NULL,
    operation BLOB NOT NULL,
    received_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX waiting_by_conversation ON waiting_operations (conversation);
