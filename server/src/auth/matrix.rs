//! Who may do what: one table, and whatever is not in it is denied.

use wardline_wire::proto::{AccountStatus, Role};

use super::{Caller, DeviceCaller};

/// Everything that can be asked of the relay, by route or by frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    // Routes.
    Operate,
    ReadDeployment,
    Enrol,
    LogIn,
    ReadOwnAccount,
    ReadAccount,
    ReadHandle,
    ReplaceDeviceList,
    ReplaceAccessKey,
    UploadPreKeys,
    ReadPreKeyStock,
    FetchBundles,
    InvitePatient,
    InviteAnyone,
    ReadRevocations,
    AdmitInvite,
    ReadEnrolments,
    DecideEnrolment,
    PublishRevocations,
    PublishIssuer,
    Connect,
    // Frames, and what a socket is given.
    Reauthorize,
    Send,
    Acknowledge,
    Receive,
}

/// Whom an action is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Anybody; not even counted.
    Unlimited,
    /// Anybody, within the limit of their address.
    Open,
    /// Devices of certified accounts with one of these roles.
    Certified(&'static [Role]),
    /// Devices of certified accounts, and issuers: they verify who invites.
    CertifiedOrIssuer,
    /// Devices of accounts that wait for their certificate, too.
    Waiting,
    /// Those, and issuers.
    WaitingOrIssuer,
    /// Issuers.
    Issuer,
}

const EVERY_ROLE: &[Role] = &[
    Role::Patient,
    Role::Staff,
    Role::Ai,
    Role::Admin,
    Role::Officer,
];
const NOT_PATIENTS: &[Role] = &[Role::Staff, Role::Ai, Role::Admin, Role::Officer];

const fn rule(action: Action) -> Rule {
    match action {
        Action::Operate => Rule::Unlimited,
        Action::ReadDeployment | Action::Enrol | Action::LogIn => Rule::Open,
        Action::ReadOwnAccount | Action::ReadRevocations => Rule::WaitingOrIssuer,
        Action::ReplaceDeviceList
        | Action::ReplaceAccessKey
        | Action::UploadPreKeys
        | Action::ReadPreKeyStock
        | Action::Connect
        | Action::Reauthorize => Rule::Waiting,
        Action::ReadAccount => Rule::CertifiedOrIssuer,
        Action::FetchBundles | Action::Send | Action::Acknowledge | Action::Receive => {
            Rule::Certified(EVERY_ROLE)
        }
        Action::ReadHandle => Rule::Certified(NOT_PATIENTS),
        Action::InvitePatient => Rule::Certified(&[Role::Staff, Role::Admin]),
        Action::InviteAnyone => Rule::Certified(&[Role::Admin]),
        Action::AdmitInvite
        | Action::ReadEnrolments
        | Action::DecideEnrolment
        | Action::PublishRevocations
        | Action::PublishIssuer => Rule::Issuer,
    }
}

/// The table's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// There is no token.
    LogIn,
    /// The account waits for its certificate.
    NotYet,
    /// Not with this role, or not with this kind of token.
    Never,
}

/// Whether `caller` may do it.
pub(crate) fn decide(action: Action, caller: &Caller) -> Decision {
    match (rule(action), caller) {
        (Rule::Unlimited | Rule::Open, _)
        | (Rule::Issuer | Rule::CertifiedOrIssuer | Rule::WaitingOrIssuer, Caller::Issuer(_)) => {
            Decision::Allowed
        }
        (_, Caller::Anonymous) => Decision::LogIn,
        (_, Caller::Issuer(_)) | (Rule::Issuer, Caller::Device(_)) => Decision::Never,
        (Rule::Waiting | Rule::WaitingOrIssuer, Caller::Device(device)) => match device.status {
            AccountStatus::Active | AccountStatus::Pending => Decision::Allowed,
            _ => Decision::Never,
        },
        (Rule::Certified(roles), Caller::Device(device)) => certified(roles, device),
        (Rule::CertifiedOrIssuer, Caller::Device(device)) => certified(EVERY_ROLE, device),
    }
}

fn certified(roles: &[Role], device: &DeviceCaller) -> Decision {
    match device.status {
        AccountStatus::Active if roles.contains(&device.role) => Decision::Allowed,
        AccountStatus::Pending if roles.contains(&device.role) => Decision::NotYet,
        _ => Decision::Never,
    }
}

/// Whether anybody may do it, without a token.
pub(crate) fn is_open(action: Action) -> bool {
    matches!(rule(action), Rule::Unlimited | Rule::Open)
}

/// Whether it counts against the caller's address.
pub(crate) fn is_limited(action: Action) -> bool {
    rule(action) != Rule::Unlimited
}

/// How the rule reads in the OpenAPI document.
pub(crate) fn describe(action: Action) -> &'static str {
    match rule(action) {
        Rule::Unlimited | Rule::Open => "Anybody.",
        Rule::Waiting => "Any device, also of an account that waits for its certificate.",
        Rule::WaitingOrIssuer => {
            "Any device, also of an account that waits for its certificate, and issuers."
        }
        Rule::CertifiedOrIssuer => "Any device of a certified account, and issuers.",
        Rule::Issuer => "Issuers.",
        Rule::Certified(roles) if roles.len() == EVERY_ROLE.len() => {
            "Any device of a certified account."
        }
        Rule::Certified(roles) if roles.len() == NOT_PATIENTS.len() => {
            "Devices of certified staff, AI, admins and officers."
        }
        Rule::Certified(_) => "Devices of certified staff (for patients) and admins (for anyone).",
    }
}

#[cfg(test)]
mod tests {
    use wardline_wire::clock::Timestamp;
    use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId, Serial};

    use super::*;

    const ACTIONS: [Action; 25] = [
        Action::Operate,
        Action::ReadDeployment,
        Action::Enrol,
        Action::LogIn,
        Action::ReadOwnAccount,
        Action::ReadAccount,
        Action::ReadHandle,
        Action::ReplaceDeviceList,
        Action::ReplaceAccessKey,
        Action::UploadPreKeys,
        Action::ReadPreKeyStock,
        Action::FetchBundles,
        Action::InvitePatient,
        Action::InviteAnyone,
        Action::ReadRevocations,
        Action::AdmitInvite,
        Action::ReadEnrolments,
        Action::DecideEnrolment,
        Action::PublishRevocations,
        Action::PublishIssuer,
        Action::Connect,
        Action::Reauthorize,
        Action::Send,
        Action::Acknowledge,
        Action::Receive,
    ];

    fn device(role: Role, status: AccountStatus) -> Caller {
        Caller::Device(DeviceCaller {
            address: DeviceAddress {
                account: AccountId::from([1; 16]),
                device: DeviceId::FIRST,
            },
            role,
            status,
            auth_epoch: 1,
            expires_at: Timestamp::from_millis(0),
        })
    }

    /// One letter an action, in the order of `ACTIONS`: `+` allowed, `l` log in
    /// first, `w` wait for the certificate, `-` never. Written out by hand, so that
    /// a change of the table is a change of two places.
    fn row(caller: &Caller) -> String {
        ACTIONS
            .into_iter()
            .map(|action| match decide(action, caller) {
                Decision::Allowed => '+',
                Decision::LogIn => 'l',
                Decision::NotYet => 'w',
                Decision::Never => '-',
            })
            .collect()
    }

    #[test]
    fn every_action_for_every_caller() {
        let active = |role| row(&device(role, AccountStatus::Active));
        let pending = |role| row(&device(role, AccountStatus::Pending));
        assert_eq!(row(&Caller::Anonymous), "++++lllllllllllllllllllll");
        assert_eq!(
            row(&Caller::Issuer(Serial::from([1; 16]))),
            "++++++--------++++++-----"
        );
        assert_eq!(active(Role::Patient), "++++++-+++++--+-----+++++");
        assert_eq!(active(Role::Staff), "+++++++++++++-+-----+++++");
        assert_eq!(active(Role::Ai), "++++++++++++--+-----+++++");
        assert_eq!(active(Role::Admin), "+++++++++++++++-----+++++");
        assert_eq!(active(Role::Officer), "++++++++++++--+-----+++++");
        assert_eq!(pending(Role::Patient), "+++++w-++++w--+-----++www");
        assert_eq!(pending(Role::Staff), "+++++ww++++ww-+-----++www");
        assert_eq!(pending(Role::Admin), "+++++ww++++www+-----++www");
    }

    #[test]
    fn a_role_or_status_that_is_none_may_nothing() {
        for role in [Role::Patient, Role::Admin, Role::Unspecified] {
            for status in [
                AccountStatus::Unspecified,
                AccountStatus::Rejected,
                AccountStatus::Revoked,
            ] {
                assert_eq!(row(&device(role, status)), "++++---------------------");
            }
        }
        let nobody = row(&device(Role::Unspecified, AccountStatus::Active));
        assert_eq!(nobody, "+++++--++++---+-----++---");
    }
}
