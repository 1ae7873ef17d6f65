//! What a peer says about this account's own device list.

use wardline_wire::directory::VerifiedDeviceList;

use crate::content::ListRef;

/// What it means that a peer encrypted for a certain list of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnListReport {
    /// Our newest.
    Agrees,
    /// An older one of ours: that peer may not reach new devices, and may still
    /// encrypt for removed ones. Its next fetch or mismatch repairs it.
    PeerIsBehind,
    /// Newer than ours: our own primary device signed another list. Fetch it.
    WeAreBehind,
    /// A list of ours that is not ours, or that only this device could have signed
    /// and did not. Somebody has the account key, or the peer lies. To be shown.
    Contradicts,
}

impl OwnListReport {
    /// What to tell the user about the peer that is called `name`; `None` for nothing.
    pub fn sentence(self, name: &str) -> Option<String> {
        match self {
            Self::Agrees | Self::PeerIsBehind | Self::WeAreBehind => None,
            Self::Contradicts => Some(format!(
                "{name} was shown a list of YOUR devices that is not yours. Somebody may have your \
                 account key, or {name}'s program is wrong. Compare safety numbers with {name}, \
                 and tell the clinic's administrator."
            )),
        }
    }
}

/// Compares what a peer used with the own newest list. `signs_lists` says that this
/// device holds the account key, so that nobody else can have signed a newer list.
pub fn check_recipient_list(
    own: &VerifiedDeviceList,
    said: ListRef,
    signs_lists: bool,
) -> OwnListReport {
    match said.version.cmp(&own.version()) {
        std::cmp::Ordering::Equal if said.hash == own.hash() => OwnListReport::Agrees,
        std::cmp::Ordering::Equal => OwnListReport::Contradicts,
        std::cmp::Ordering::Less => {
            let is_previous = said.version + 1 == own.version();
            if is_previous && own.prev_hash() != Some(said.hash) {
                OwnListReport::Contradicts
            } else {
                OwnListReport::PeerIsBehind
            }
        }
        std::cmp::Ordering::Greater if signs_lists => OwnListReport::Contradicts,
        std::cmp::Ordering::Greater => OwnListReport::WeAreBehind,
    }
}
