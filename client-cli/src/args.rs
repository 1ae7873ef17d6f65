//! What can be typed: every option and command, with its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER_HELP: &str = "\
Exit status:
   0  done
   1  something you can put right; the message says how
   2  unexpected: please report it
   3  the relay or the disk did not do it; try again
   4  a key changed or is not trusted; look before you go on
   5  too many requests; wait
   8  the profile is in use by another process, or its passphrase is wrong
   9  refused by a rule (role, membership, revoked)
  64  the command line is not right";

const EXAMPLES: &str = "\
Examples:
  wardline enroll 'wardline:join/…'          join with an invite
  wardline send @dr-lee 'See you at ten.'    write to someone
  wardline listen --json                     follow what arrives
  wardline messages --after 120 --json       what is stored after number 120
  wardline verify @dr-lee                    compare safety numbers";

/// Wardline: end-to-end encrypted messaging that a clinic runs itself.
#[derive(Parser)]
#[command(name = "wardline", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{AFTER_HELP}"))]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) profile: ProfileOptions,
    /// Print JSON, one object a line, on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on standard error (twice: a lot). Never content.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which profile, and how it is unlocked.
#[derive(Args)]
pub(crate) struct ProfileOptions {
    /// Name of the profile: one profile is one device of one account.
    #[arg(
        short = 'P',
        long,
        global = true,
        default_value = "default",
        value_name = "NAME"
    )]
    pub(crate) profile: String,
    /// Folder that holds the profiles [default: `$XDG_DATA_HOME/wardline`].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File with the passphrase (its first line); asked for at the terminal otherwise.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "key_file")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Key file instead of a passphrase, made if it is missing when a profile is made. For
    /// machines that unlock on their own: whoever reads the file reads the messages.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Join with an invite link. Safe to run again if it was interrupted.
    Enroll(Enroll),
    /// Show this device: account, role, connection.
    Status,
    /// The people and the AI that this device knows.
    Contacts(Contacts),
    /// The conversations, and who is in them.
    Conversations(Conversations),
    /// Send a message.
    Send(Send),
    /// Follow messages as they arrive (at least once each, by number), until interrupted.
    Listen(Listen),
    /// Print stored messages, oldest first.
    Messages(Messages),
    /// Chat in a conversation, line by line.
    Chat(Chat),
    /// Show the safety number shared with a contact, and mark it as compared.
    Verify(Verify),
    /// Invite somebody.
    Invite(Invite),
    /// What the client wants you to know: key changes, gaps, requests, refusals.
    Notices(Notices),
}

#[derive(Args)]
pub(crate) struct Enroll {
    /// The invite link, or "-" to read it from standard input.
    pub(crate) invite: String,
    /// Your name as the people you write to will see it (sent encrypted, to them only).
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How long to wait for the clinic to certify the account, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) wait: u64,
}

#[derive(Args)]
pub(crate) struct Contacts {
    #[command(subcommand)]
    pub(crate) action: Option<ContactAction>,
}

#[derive(Subcommand)]
pub(crate) enum ContactAction {
    /// List the contacts (what happens without a sub-command).
    List,
    /// Look somebody up in the clinic's directory by handle.
    Find {
        /// A handle, with or without "@".
        handle: String,
    },
    /// Keep a private name for a contact. It never leaves this device.
    Label {
        /// Account id, handle or label.
        contact: String,
        /// The new label.
        label: String,
    },
    /// Accept the first message of somebody who was not invited by you.
    Accept {
        /// Account id, handle or label.
        contact: String,
    },
    /// Accept that a contact's key changed, after you made sure why.
    AcceptChange {
        /// Account id, handle or label.
        contact: String,
    },
    /// Take nothing more from a contact.
    Block {
        /// Account id, handle or label.
        contact: String,
    },
}

#[derive(Args)]
pub(crate) struct Conversations {
    #[command(subcommand)]
    pub(crate) action: Option<ConversationAction>,
}

#[derive(Subcommand)]
pub(crate) enum ConversationAction {
    /// List the conversations (what happens without a sub-command).
    List,
    /// Start one. You are its owner.
    Create {
        /// Title, seen by the members only.
        #[arg(long)]
        title: String,
        /// A member: account id, handle or label. May be repeated.
        #[arg(long = "member", value_name = "CONTACT")]
        members: Vec<String>,
    },
    /// Add a member (owners only).
    Add {
        /// Conversation id, its beginning, or its title.
        conversation: String,
        /// Account id, handle or label.
        contact: String,
    },
    /// Remove a member (owners only).
    Remove {
        /// Conversation id, its beginning, or its title.
        conversation: String,
        /// Account id, handle or label.
        contact: String,
    },
    /// Make a member an owner (owners only).
    Promote {
        /// Conversation id, its beginning, or its title.
        conversation: String,
        /// Account id, handle or label.
        contact: String,
    },
    /// Make an owner an ordinary member (owners only).
    Demote {
        /// Conversation id, its beginning, or its title.
        conversation: String,
        /// Account id, handle or label.
        contact: String,
    },
    /// Leave a conversation.
    Leave {
        /// Conversation id, its beginning, or its title.
        conversation: String,
    },
    /// Let the AI answer in a conversation, or stop it (any member; signed, seen by all).
    Ai {
        /// Conversation id, its beginning, or its title.
        conversation: String,
        /// "on" or "off".
        state: Switch,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Args)]
pub(crate) struct Send {
    /// Conversation (id, its beginning, or its title) or contact (account id, handle or label).
    pub(crate) to: String,
    /// The words, or "-" (also: nothing) to read them from standard input.
    pub(crate) text: Option<String>,
    /// Answer to this message, by number.
    #[arg(long, value_name = "ID")]
    pub(crate) reply_to: Option<u64>,
    /// Return once the message is safely stored, without waiting for the relay.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for the relay, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) wait: u64,
}

#[derive(Args)]
pub(crate) struct Listen {
    /// Begin after this message number; without it, only what is new.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<u64>,
    /// Only this conversation.
    #[arg(long, value_name = "CONVERSATION")]
    pub(crate) conversation: Option<String>,
    /// Stop after so many messages.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
    /// Also show the AI's answers while they are being written.
    #[arg(long)]
    pub(crate) partial: bool,
}

#[derive(Args)]
pub(crate) struct Messages {
    /// Only messages after this number.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(crate) after: u64,
    /// Only this conversation.
    #[arg(long, value_name = "CONVERSATION")]
    pub(crate) conversation: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Do not fetch first what waits at the relay.
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Args)]
pub(crate) struct Chat {
    /// Conversation (id, its beginning, or its title) or contact (account id, handle or label).
    pub(crate) with: String,
    /// How many earlier messages to show first.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) history: u64,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// Account id, handle or label.
    pub(crate) contact: String,
    /// The numbers were compared over another channel and are the same.
    #[arg(long)]
    pub(crate) matches: bool,
}

#[derive(Args)]
pub(crate) struct Invite {
    /// What the newcomer will be.
    #[arg(long, default_value = "patient")]
    pub(crate) role: String,
    /// A private note of whom it is for. It never leaves this device.
    #[arg(long)]
    pub(crate) label: String,
    /// Handle of a new staff member or AI.
    #[arg(long)]
    pub(crate) handle: Option<String>,
    /// Name of a new staff member or AI, as everyone will see it.
    #[arg(long)]
    pub(crate) display_name: Option<String>,
    /// Days until it expires.
    #[arg(long, default_value_t = 7)]
    pub(crate) days: u32,
}

#[derive(Args)]
pub(crate) struct Notices {
    /// Only notices after this number.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(crate) after: u64,
}
