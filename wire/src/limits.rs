//! Limits that both ends know. The relay may be configured lower, never higher.

/// Largest ciphertext for one device: 96 KiB, as Signal-Server's message limit.
pub const MAX_CIPHERTEXT_BYTES: usize = 96 * 1024;
/// Most recipient accounts in one send.
pub const MAX_RECIPIENTS: usize = 256;
/// Largest frame on the socket: a full send to a small group fits.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Most one-time prekeys of each kind in one upload, as Signal-Server's limit.
pub const MAX_PREKEYS_PER_UPLOAD: usize = 100;
/// Most devices on one account: Signal-Server allows six; a clinician has a few more places to work at.
pub const MAX_DEVICES: usize = 10;
/// Largest HTTP body: an upload of 100 Kyber prekeys is about 165 KiB.
pub const MAX_BODY_BYTES: usize = 512 * 1024;
/// Registration ids are 1..=16383 (14 bits travel in sealed sender v2).
pub const MAX_REGISTRATION_ID: u32 = 0x3FFF;
/// How long a device list is good for, in milliseconds: 30 days.
pub const DEVICE_LIST_VALIDITY_MS: u64 = 30 * 24 * 3_600_000;
/// How long a revocation list may be good for at most, in milliseconds: 31 days.
pub const REVOCATION_LIST_VALIDITY_MS: u64 = 31 * 24 * 3_600_000;
/// How far clocks may be apart when validity is checked, in milliseconds: 24 hours.
pub const CLOCK_TOLERANCE_MS: u64 = 24 * 3_600_000;
