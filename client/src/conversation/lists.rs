//! Device lists that operations lean on.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use wardline_wire::directory::{DeviceListError, VerifiedDeviceList};
use wardline_wire::ids::{AccountId, DeploymentId, PayloadHash};
use wardline_wire::proto::SignedBlob;

use super::log::Standing;
use super::operation::{OperationError, UnverifiedOperation, VerifiedOperation};
use crate::content::{ConversationId, ListRef};

/// A device list with the account key that signed it. That this is the key the
/// conversation knows is checked by the log.
#[derive(Clone)]
pub struct ListEvidence {
    account_key: [u8; 32],
    blob: SignedBlob,
    list: VerifiedDeviceList,
}

impl ListEvidence {
    /// Checks the list under `account_key`. Expiry does not matter here: the list was
    /// good when the operation was signed, or the author's newest list says otherwise.
    ///
    /// # Errors
    /// [`DeviceListError`].
    pub fn verify(
        blob: SignedBlob,
        account: AccountId,
        account_key: &[u8; 32],
        deployment: DeploymentId,
    ) -> Result<Self, DeviceListError> {
        let key = VerifyingKey::from_bytes(account_key).map_err(|_| DeviceListError::Malformed)?;
        let list = VerifiedDeviceList::verify(&blob, account, &key, deployment)?;
        Ok(Self {
            account_key: *account_key,
            blob,
            list,
        })
    }

    /// The list.
    pub const fn list(&self) -> &VerifiedDeviceList {
        &self.list
    }

    /// The signed bytes, to store and to pass on.
    pub const fn blob(&self) -> &SignedBlob {
        &self.blob
    }

    /// The account key it was verified under.
    pub const fn account_key(&self) -> [u8; 32] {
        self.account_key
    }
}

/// Lists known, by account and hash.
#[derive(Clone, Default)]
pub struct Lists {
    lists: BTreeMap<(AccountId, PayloadHash), ListEvidence>,
}

/// What became of a batch of received operations, before the log saw them.
#[derive(Default)]
pub struct Verified {
    /// In the order received, ready for [`Log::insert_all`](super::Log::insert_all).
    pub operations: Vec<(VerifiedOperation, Standing)>,
    /// Lists that are needed before the others can be checked: ask the sender.
    pub needed: Vec<(AccountId, ListRef)>,
    /// Operations that wait for those lists; keep them (a bounded number).
    pub waiting: Vec<SignedBlob>,
    /// Operations that are not believed, with the reason.
    pub refused: Vec<OperationError>,
}

impl Lists {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a list in. The same list again changes nothing.
    pub fn add(&mut self, evidence: ListEvidence) {
        let key = (evidence.list.account(), evidence.list.hash());
        self.lists.entry(key).or_insert(evidence);
    }

    /// The list that an operation names.
    pub fn find(&self, account: AccountId, list: ListRef) -> Option<&ListEvidence> {
        self.lists
            .get(&(account, list.hash))
            .filter(|evidence| evidence.list.version() == list.version)
    }

    /// The newest list of an account under this key.
    pub fn newest(&self, account: AccountId, account_key: &[u8; 32]) -> Option<&ListEvidence> {
        self.of(account)
            .filter(|evidence| evidence.account_key == *account_key)
            .max_by_key(|evidence| evidence.list.version())
    }

    /// All lists of an account.
    pub fn of(&self, account: AccountId) -> impl Iterator<Item = &ListEvidence> {
        let lowest = PayloadHash::from([0; 32]);
        let highest = PayloadHash::from([0xFF; 32]);
        self.lists
            .range((account, lowest)..=(account, highest))
            .map(|(_, evidence)| evidence)
    }

    /// Whether the signing device is still on its account's newest list.
    pub fn standing(&self, operation: &VerifiedOperation) -> Standing {
        let fields = operation.operation();
        let author = fields.author;
        let signed_with = self
            .find(author.account, fields.author_list)
            .and_then(|evidence| evidence.list.device(author.device));
        let now = self
            .newest(author.account, operation.account_key())
            .and_then(|evidence| evidence.list.device(author.device));
        match (signed_with, now) {
            (Some(then), Some(now)) if then.device_key == now.device_key => Standing::Current,
            _ => Standing::Removed,
        }
    }

    /// Reads and verifies received operations of one conversation.
    pub fn verify(
        &self,
        operations: Vec<SignedBlob>,
        conversation: ConversationId,
        deployment: DeploymentId,
    ) -> Verified {
        let mut verified = Verified::default();
        for blob in operations {
            let operation = match UnverifiedOperation::read(blob.clone()) {
                Ok(operation) => operation,
                Err(error) => {
                    verified.refused.push(error);
                    continue;
                }
            };
            let claims = operation.claims();
            if claims.conversation != conversation {
                let error = OperationError::Malformed("conversation");
                verified.refused.push(error);
                continue;
            }
            let needed = (claims.author.account, claims.author_list);
            match self.find(needed.0, needed.1) {
                None => {
                    if !verified.needed.contains(&needed) {
                        verified.needed.push(needed);
                    }
                    verified.waiting.push(blob);
                }
                Some(evidence) => match operation.verify(deployment, evidence) {
                    Ok(operation) => {
                        let standing = self.standing(&operation);
                        verified.operations.push((operation, standing));
                    }
                    Err(error) => verified.refused.push(error),
                },
            }
        }
        verified
    }
}
