//! What the user is told, in words that need no manual.

use wardline_wire::directory::{CertificateError, DeviceListError};
use wardline_wire::ids::DeviceId;

/// Something that happened with a contact and is always shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The clinic certified a new key (a new phone, or lost recovery file).
    KeyChanged,
    /// The same, for somebody whose safety number was compared: sending stopped.
    VerifiedKeyChanged,
    /// Another key without a new certificate: sending stopped.
    UncertifiedKey,
    /// An older certificate with another key was shown.
    OldCertificate,
    /// Role, handle or certified name changed.
    DirectoryEntryChanged,
    /// A certificate that is not believed.
    CertificateRefused(CertificateError),
    /// A device list that is not believed; the known one stays.
    ListRefused(DeviceListError),
    /// Two lists of one version: hard stop.
    TwoLists {
        /// The version that exists twice.
        version: u64,
    },
    /// A list that does not build on the known one: hard stop.
    BrokenChain {
        /// Version of the list that does not fit.
        version: u64,
    },
    /// The relay shows an older list than the contact itself speaks of.
    ListWithheld {
        /// Version the relay shows.
        known: u64,
        /// Version the contact spoke of.
        reported: u64,
    },
    /// A device was added.
    DeviceAdded(DeviceId),
    /// A device was removed.
    DeviceRemoved(DeviceId),
    /// The clinic revoked the account.
    Revoked,
    /// The relay answered about somebody else.
    WrongAnswer,
}

impl Notice {
    /// One or two sentences about the contact that is called `name`.
    pub fn sentence(&self, name: &str) -> String {
        match self {
            Self::KeyChanged => format!(
                "{name} has a new key, certified by the clinic. This happens after a lost phone. \
                 If you did not expect it, ask {name} in another way."
            ),
            Self::VerifiedKeyChanged => format!(
                "{name} has a new key, although you had compared safety numbers. Nothing is sent \
                 until you compare the new number, or accept the new key."
            ),
            Self::UncertifiedKey => format!(
                "The relay shows another key for {name} that the clinic has not certified. \
                 Nothing is sent. Tell the clinic's administrator."
            ),
            Self::OldCertificate => format!(
                "The relay showed an old key of {name}. It was ignored. \
                 If this comes again, tell the clinic's administrator."
            ),
            Self::DirectoryEntryChanged => {
                format!("The clinic changed {name}'s entry in its directory.")
            }
            Self::CertificateRefused(error) => {
                format!("The relay showed a certificate for {name} that does not count: {error}.")
            }
            Self::ListRefused(error) => format!(
                "The relay showed a list of {name}'s devices that does not count: {error}. \
                 The known list stays in use."
            ),
            Self::TwoLists { version } => format!(
                "There are two different lists of {name}'s devices with the number {version}. \
                 Somebody may have {name}'s keys. Nothing is sent. Speak to {name} in person or \
                 by telephone before you go on."
            ),
            Self::BrokenChain { version } => format!(
                "The list of {name}'s devices with the number {version} does not build on the one \
                 before. Somebody may have {name}'s keys. Nothing is sent. Speak to {name} in \
                 person or by telephone before you go on."
            ),
            Self::ListWithheld { known, reported } => format!(
                "{name} has changed devices (list {reported}), but the relay still shows the old \
                 list ({known}). New devices of {name} will not get your messages."
            ),
            Self::DeviceAdded(device) => format!(
                "{name} added a device (number {device}). If {name} did not, tell the clinic's \
                 administrator."
            ),
            Self::DeviceRemoved(device) => {
                format!("{name} removed a device (number {device}). Nothing more is sent to it.")
            }
            Self::Revoked => format!(
                "The clinic has revoked {name}'s account. Nothing is sent to it any more, and new \
                 messages from it do not count."
            ),
            Self::WrongAnswer => format!(
                "The relay was asked about {name} and answered about somebody else. \
                 The answer was ignored."
            ),
        }
    }
}

/// Something to know while sending goes on. For first contact it is a reason to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The certificate has expired.
    #[error("the clinic has not renewed this account's certificate")]
    CertificateExpired,
    /// The device list has expired.
    #[error("this account's list of devices has expired; it is renewed when its owner is online")]
    ListExpired,
    /// The revocation list is overdue.
    #[error("the clinic's list of revoked accounts is out of date")]
    RevocationsStale,
    /// There is no revocation list.
    #[error("the clinic's list of revoked accounts is missing")]
    RevocationsMissing,
    /// The relay shows an older list than the contact speaks of.
    #[error("the relay shows an old list of this account's devices ({known}, not {reported})")]
    ListWithheld {
        /// Version the relay shows.
        known: u64,
        /// Version the contact spoke of.
        reported: u64,
    },
}

/// Why nothing is sent, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The user blocked it.
    #[error("you have blocked this person; unblock them first")]
    Blocked,
    /// The clinic revoked it.
    #[error("the clinic has revoked this account")]
    Revoked,
    /// There is no certificate.
    #[error("the clinic has not certified this account yet; wait, or tell the administrator")]
    NotCertified,
    /// No verified device list.
    #[error("this account's devices are not known yet; try again when the relay can be reached")]
    NoDeviceList,
    /// Another key without a certificate.
    #[error(
        "the relay shows another key for this person that the clinic has not certified; \
         tell the clinic's administrator"
    )]
    UncertifiedKey,
    /// A certified new key of somebody whose safety number was compared.
    #[error(
        "this person has a new key; compare the safety number again, or accept the new key, \
         before you send"
    )]
    VerifiedKeyChanged,
    /// Two lists of one version.
    #[error(
        "there are two different lists (number {version}) of this person's devices; \
         speak to them in person or by telephone before you go on"
    )]
    TwoLists {
        /// The version that exists twice.
        version: u64,
    },
    /// A list that does not build on the known one.
    #[error(
        "the list (number {version}) of this person's devices does not build on the one before; \
         speak to them in person or by telephone before you go on"
    )]
    BrokenChain {
        /// Version of the list that does not fit.
        version: u64,
    },
    /// Good enough to go on with, not to begin with.
    #[error("a first message cannot be sent: {0}")]
    FirstContact(Warning),
}
