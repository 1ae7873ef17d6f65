//! A log on its way to a newcomer, in pieces that fit.

use prost::Message as _;
use wardline_wire::ids::AccountId;
use wardline_wire::proto::{CertificateChain, SignedBlob};

use super::lists::{ListEvidence, Lists};
use super::log::Log;
use crate::content::{AccountEvidence, ConversationTitle, ConversationUpdate};

/// Most bytes of operations and evidence in one update: leaves room for the rest of
/// the content below the largest bucket.
const BUDGET_BYTES: usize = 80 * 1024;
const MAX_OPERATIONS: usize = 1024;
const MAX_EVIDENCE: usize = 256;
const MAX_LISTS: usize = 64;
/// Tag and length of an element.
const OVERHEAD_BYTES: usize = 8;

/// The whole log, parents first, with the lists and certificates it leans on and
/// the newest list of every author and member. No message is in it.
pub fn export(
    log: &Log,
    lists: &Lists,
    certificate: impl Fn(AccountId) -> Option<CertificateChain>,
) -> (Vec<SignedBlob>, Vec<AccountEvidence>) {
    let operations = log
        .operations()
        .map(|(operation, _)| operation.blob().clone())
        .collect();
    let mut evidence: Vec<AccountEvidence> = Vec::new();
    for lean in log.leans_on() {
        let named = lean.list.and_then(|list| lists.find(lean.account, list));
        let newest = lists.newest(lean.account, &lean.account_key);
        let same = |entry: &AccountEvidence| {
            entry.account == lean.account && entry.account_key == lean.account_key
        };
        if !evidence.iter().any(same) {
            evidence.push(AccountEvidence {
                account: lean.account,
                account_key: lean.account_key,
                certificate: certificate(lean.account),
                device_lists: Vec::new(),
            });
        }
        let Some(entry) = evidence.iter_mut().find(|entry| same(entry)) else {
            continue;
        };
        for blob in [named, newest]
            .into_iter()
            .flatten()
            .map(ListEvidence::blob)
        {
            if !entry.device_lists.contains(blob) {
                entry.device_lists.push(blob.clone());
            }
        }
    }
    (operations, evidence)
}

/// Cuts operations and evidence into updates that each fit one content: evidence
/// first, operations in their order. The title travels with the last.
pub fn split(
    operations: Vec<SignedBlob>,
    evidence: Vec<AccountEvidence>,
    title: Option<ConversationTitle>,
) -> Vec<ConversationUpdate> {
    let mut updates = Vec::new();
    let mut piece = Piece::default();
    for entry in evidence {
        for part in parts(entry) {
            let bytes = part.write().encoded_len();
            if piece.update.evidence.len() >= MAX_EVIDENCE || !piece.fits(bytes) {
                updates.push(piece.take());
            }
            piece.bytes += bytes + OVERHEAD_BYTES;
            piece.update.evidence.push(part);
        }
    }
    for operation in operations {
        let bytes = operation.encoded_len();
        if piece.update.operations.len() >= MAX_OPERATIONS || !piece.fits(bytes) {
            updates.push(piece.take());
        }
        piece.bytes += bytes + OVERHEAD_BYTES;
        piece.update.operations.push(operation);
    }
    piece.update.title = title;
    if piece.bytes > 0 || piece.update.title.is_some() {
        updates.push(piece.update);
    }
    updates
}

/// An account with very many lists becomes several entries.
fn parts(entry: AccountEvidence) -> Vec<AccountEvidence> {
    let mut parts = vec![AccountEvidence {
        device_lists: Vec::new(),
        ..entry.clone()
    }];
    let mut bytes = 0;
    for list in entry.device_lists {
        bytes += list.encoded_len() + OVERHEAD_BYTES;
        let full = parts.last().is_some_and(|part| {
            !part.device_lists.is_empty()
                && (part.device_lists.len() >= MAX_LISTS || bytes > BUDGET_BYTES / 4)
        });
        if full {
            bytes = list.encoded_len() + OVERHEAD_BYTES;
            parts.push(AccountEvidence {
                account: entry.account,
                account_key: entry.account_key,
                certificate: None,
                device_lists: Vec::new(),
            });
        }
        if let Some(part) = parts.last_mut() {
            part.device_lists.push(list);
        }
    }
    parts
}

#[derive(Default)]
struct Piece {
    update: ConversationUpdate,
    bytes: usize,
}

impl Piece {
    fn fits(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes + OVERHEAD_BYTES <= BUDGET_BYTES
    }

    fn take(&mut self) -> ConversationUpdate {
        std::mem::take(self).update
    }
}
