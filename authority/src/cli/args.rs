//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use wardline_wire::directory::{Handle, role_from_name};
use wardline_wire::ids::{AccountId, InviteId, Serial};
use wardline_wire::proto::Role;

use crate::DAY_MS;
use crate::config::{Approval, Overrides};
use crate::root::DEFAULT_WORK_FACTOR;

/// The clinic's directory authority: its root, issuers, invites, certificates and revocations.
#[derive(Parser)]
#[command(
    name = "wardline-authority",
    version,
    after_help = "Examples:\n  \
        wardline-authority init --dir /media/stick/root\n  \
        wardline-authority issuer --dir /media/stick/root --roles patient,staff,ai --days 90 --out /var/lib/wardline-authority\n  \
        wardline-authority serve --dir /var/lib/wardline-authority\n  \
        wardline-authority invite --dir /var/lib/wardline-authority --role staff --handle dr.okafor --name \"Dr. Okafor\"\n\n\
        Exit codes: 0 done, 1 to be mended by the caller, 2 unexpected, 3 relay or file not reached,\n\
        4 another key than the pinned one, 5 come back later, 8 in use, 9 refused by policy, 64 usage."
)]
pub(super) struct Cli {
    /// Print data (and errors) as one JSON object on standard output.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say more on standard error; twice: everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say errors only.
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Write the log as JSON lines.
    #[arg(long, global = true)]
    pub(super) log_json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make the clinic's root, once, on a machine without a network.
    #[command(
        after_help = "Example:\n  wardline-authority init --dir /media/stick/root\n\n\
        The passphrase is asked for twice. Without it, or without root.age, the root is lost:\n\
        keep a copy of the file in another place, and the passphrase in a third."
    )]
    Init(InitArgs),
    /// Let the root sign a new issuer: a short-lived key, limited to some roles.
    #[command(
        after_help = "Example:\n  wardline-authority issuer --dir /media/stick/root \
        --roles patient,staff,ai --days 90 --out /media/stick/issuer\n\n\
        Then carry the folder to the issuer's machine. To follow an issuer that ends, copy the new\n\
        files in issuers/ beside the old ones; a running `serve` finds them within the hour."
    )]
    Issuer(IssuerArgs),
    /// Make an invite and print its link. Asked again for the same handle (or the
    /// same --once), it prints the same link.
    #[command(after_help = "Examples:\n  \
        wardline-authority invite --role staff --handle dr.okafor --name \"Dr. Okafor\" --relay-url https://relay.example\n  \
        wardline-authority invite --role patient --inviter @dr.okafor --expires 2d --relay-url https://relay.example\n\n\
        Whoever holds the link may enrol, once: hand it over like a password.")]
    Invite(InviteArgs),
    /// Show the authority's own invites.
    #[command(after_help = "Example:\n  wardline-authority invites --dir DIR --show 3f9c…")]
    Invites(InvitesArgs),
    /// Show the enrolments that wait at the relay, and what would be done with them.
    #[command(after_help = "Example:\n  wardline-authority list --dir DIR --json")]
    List(RelayArgs),
    /// Certify a waiting enrolment by hand. Its proof must fit all the same.
    #[command(after_help = "Example:\n  wardline-authority approve 6b1f…-… --dir DIR")]
    Approve(ApproveArgs),
    /// Reject a waiting enrolment by hand.
    #[command(
        after_help = "Example:\n  wardline-authority reject 6b1f…-… --dir DIR --reason \"not expected\""
    )]
    Reject(RejectArgs),
    /// Show everybody who was certified here.
    #[command(after_help = "Example:\n  wardline-authority accounts --dir DIR")]
    Accounts(DirArgs),
    /// Run the issuer: certify, renew, keep the revocation list fresh. Ends on SIGTERM.
    #[command(
        after_help = "Example:\n  wardline-authority serve --dir DIR --relay-url https://relay.example --relay-key 5e0c…"
    )]
    Serve(ServeArgs),
    /// Take back an account, a certificate or an issuer, for good.
    #[command(after_help = "Examples:\n  \
        wardline-authority revoke --dir DIR --account @dr.okafor --reason \"left the clinic\"\n  \
        wardline-authority revoke --dir DIR --issuer 91d2… --root /media/stick/root --reason \"machine stolen\"\n\n\
        Accounts under a revoked issuer are certified anew by the next one. The reason stays here.")]
    Revoke(RevokeArgs),
    /// Show what is revoked, and whether the relay has the newest list.
    #[command(after_help = "Example:\n  wardline-authority list-revocations --dir DIR --json")]
    ListRevocations(DirArgs),
}

#[derive(Args)]
pub(super) struct InitArgs {
    /// Where root.age and deployment.toml go.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// File whose first line is the passphrase; without it you are asked.
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// Work for scrypt, as a power of two; lower only for tests.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WORK_FACTOR, value_parser = clap::value_parser!(u8).range(4..=22))]
    pub(super) work_factor: u8,
}

#[derive(Args)]
pub(super) struct IssuerArgs {
    /// The root's directory.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Roles it may certify, separated by commas: patient, staff, ai, admin, officer.
    #[arg(long, value_delimiter = ',', required = true, value_parser = parse_role)]
    pub(super) roles: Vec<Role>,
    /// Days until it ends.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=400))]
    pub(super) days: u64,
    /// The issuer's directory; made if need be.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// File whose first line is the root's passphrase; without it you are asked.
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// Encrypt the issuer's keys under the first line of this file. Without it they
    /// lie in a file that only its owner may read.
    #[arg(long, value_name = "FILE")]
    pub(super) issuer_passphrase_file: Option<PathBuf>,
    /// Work for scrypt, as a power of two; lower only for tests.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WORK_FACTOR, value_parser = clap::value_parser!(u8).range(4..=22))]
    pub(super) work_factor: u8,
}

#[derive(Args, Clone)]
pub(super) struct DirArgs {
    /// The issuer's directory.
    #[arg(long, default_value = ".")]
    pub(super) dir: PathBuf,
    /// File whose first line opens the issuer's keys, if they are encrypted.
    #[arg(long, value_name = "FILE")]
    pub(super) issuer_passphrase_file: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub(super) struct RelayArgs {
    #[command(flatten)]
    pub(super) at: DirArgs,
    /// The relay: "`https://host[:port]`", or "`http://…`" on this machine.
    #[arg(long, value_name = "URL")]
    pub(super) relay_url: Option<String>,
    /// SHA-256 of the relay's public key, hexadecimal; without it the platform's
    /// certificate authorities decide.
    #[arg(long, value_name = "HEX")]
    pub(super) relay_key: Option<String>,
}

impl RelayArgs {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            relay_url: self.relay_url.clone(),
            relay_key: self.relay_key.clone(),
            ..Overrides::default()
        }
    }
}

#[derive(Args)]
pub(super) struct InviteArgs {
    #[command(flatten)]
    pub(super) relay: RelayArgs,
    /// Role the newcomer will have: patient, staff, ai, admin, officer.
    #[arg(long, value_parser = parse_role)]
    pub(super) role: Role,
    /// Who is shown as the inviter: an account id or @handle certified here.
    #[arg(long, value_name = "ACCOUNT|@HANDLE")]
    pub(super) inviter: Option<AccountName>,
    /// File with the inviter's access key (32 hexadecimal digits), so that the
    /// newcomer can write first.
    #[arg(long, value_name = "FILE", requires = "inviter")]
    pub(super) inviter_access_key_file: Option<PathBuf>,
    /// Handle in the directory; for everybody but patients.
    #[arg(long, requires = "name")]
    pub(super) handle: Option<Handle>,
    /// Name in the directory; for everybody but patients.
    #[arg(long, requires = "handle")]
    pub(super) name: Option<String>,
    /// How long it is good for: 30m, 12h, 7d; at most 90d.
    #[arg(long, default_value = "7d", value_parser = parse_duration)]
    pub(super) expires: u64,
    /// Your own name for this invite: running the command again gives the same link.
    #[arg(long, value_name = "NAME")]
    pub(super) once: Option<String>,
}

#[derive(Args)]
pub(super) struct InvitesArgs {
    #[command(flatten)]
    pub(super) at: DirArgs,
    /// Print the link of this open invite.
    #[arg(long, value_name = "INVITE")]
    pub(super) show: Option<InviteId>,
}

#[derive(Args)]
pub(super) struct ApproveArgs {
    /// The account, as `list` shows it.
    pub(super) account: AccountId,
    #[command(flatten)]
    pub(super) relay: RelayArgs,
    /// Another handle than the invite says.
    #[arg(long, requires = "name")]
    pub(super) handle: Option<Handle>,
    /// Another name than the invite says.
    #[arg(long, requires = "handle")]
    pub(super) name: Option<String>,
}

#[derive(Args)]
pub(super) struct RejectArgs {
    /// The account, as `list` shows it.
    pub(super) account: AccountId,
    #[command(flatten)]
    pub(super) relay: RelayArgs,
    /// Why; stays here.
    #[arg(long)]
    pub(super) reason: String,
}

#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) relay: RelayArgs,
    /// Certify at once what fits, or wait for `approve`.
    #[arg(long, value_enum)]
    pub(super) approve: Option<Approval>,
    /// Seconds between looks at the relay.
    #[arg(long)]
    pub(super) poll_seconds: Option<f64>,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false))]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    pub(super) relay: RelayArgs,
    /// An account, by id or @handle.
    #[arg(long, group = "what", value_name = "ACCOUNT|@HANDLE")]
    pub(super) account: Option<AccountName>,
    /// A certificate, by serial. Its account is not certified again.
    #[arg(long, group = "what", value_name = "SERIAL")]
    pub(super) certificate: Option<Serial>,
    /// An issuer, by serial: everything it signed falls with it.
    #[arg(long, group = "what", value_name = "SERIAL")]
    pub(super) issuer: Option<Serial>,
    /// Why; stays here.
    #[arg(long)]
    pub(super) reason: String,
    /// The root's directory: let the root sign the list.
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// File whose first line is the root's passphrase; without it you are asked.
    #[arg(long, value_name = "FILE", requires = "root")]
    pub(super) passphrase_file: Option<PathBuf>,
}

/// An account by id or by handle.
#[derive(Clone)]
pub(super) enum AccountName {
    Id(AccountId),
    Handle(Handle),
}

impl std::str::FromStr for AccountName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('@') {
            text.parse()
                .map(Self::Handle)
                .map_err(|error: wardline_wire::directory::HandleError| error.to_string())
        } else {
            text.parse()
                .map(Self::Id)
                .map_err(|_| "neither an account id nor an @handle".to_owned())
        }
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    role_from_name(text.trim())
        .ok_or_else(|| "a role is patient, staff, ai, admin or officer".to_owned())
}

/// Milliseconds from "30m", "12h" or "7d"; at most 90 days.
fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || "write 30m, 12h or 7d; at most 90d".to_owned();
    let unit = match text.chars().last() {
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => DAY_MS,
        _ => return Err(wrong()),
    };
    let number = text.get(..text.len() - 1).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(unit) {
        Some(millis) if (1..=90 * DAY_MS).contains(&millis) => Ok(millis),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_bounded() {
        assert_eq!(parse_duration("30m"), Ok(1_800_000));
        assert_eq!(parse_duration("7d"), Ok(7 * DAY_MS));
        for bad in [
            "",
            "d",
            "7",
            "0d",
            "91d",
            "-1d",
            "7w",
            "7 d",
            "é",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accounts_are_named_by_id_or_handle() {
        assert!(matches!("@dr.okafor".parse(), Ok(AccountName::Handle(_))));
        let id = "00000000-0000-4000-8000-000000000000";
        assert!(matches!(id.parse(), Ok(AccountName::Id(_))));
        assert!("dr.okafor".parse::<AccountName>().is_err());
        assert!("@Dr".parse::<AccountName>().is_err());
    }
}
