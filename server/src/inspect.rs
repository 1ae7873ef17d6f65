//! What the mailboxes hold: for operators who want to see with their own eyes that it is
//! ciphertext, and for the demonstration.

use wardline_wire::ids::AccountId;

use crate::app::{StartError, open};
use crate::config::Config;
use crate::store::Store as _;

/// Bytes of a ciphertext that are shown.
const SHOWN: usize = 24;

/// An envelope in a mailbox.
pub struct Held {
    /// Whose mailbox.
    pub account: AccountId,
    /// Which of their devices.
    pub device: u32,
    /// Position in the mailbox.
    pub seq: u64,
    /// Size of the ciphertext, bytes.
    pub bytes: usize,
    /// Its first bytes, hexadecimal.
    pub begins: String,
}

/// What the mailboxes hold, at most `limit` envelopes. The relay may be running.
///
/// # Errors
/// [`StartError`] when the database cannot be opened or read.
pub async fn inspect(config: &Config, limit: u32) -> Result<Vec<Held>, StartError> {
    let database = open(config).await?;
    let held = database.held(limit).await;
    database.close().await;
    Ok(held?
        .into_iter()
        .filter_map(|envelope| {
            Some(Held {
                account: AccountId::from_slice(&envelope.account).ok()?,
                device: envelope.device,
                seq: envelope.seq,
                bytes: envelope.ciphertext.len(),
                begins: hex::encode(
                    envelope
                        .ciphertext
                        .get(..SHOWN)
                        .unwrap_or(&envelope.ciphertext),
                ),
            })
        })
        .collect())
}
