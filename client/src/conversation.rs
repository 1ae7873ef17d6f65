//! Who is in a conversation: a log of signed operations that only members see.
//!
//! Every operation names the operations its author knew (`parents`), so the log
//! is a graph that begins at one "create" operation, and the conversation's id is
//! that operation's hash: nobody can show a newcomer another beginning. Membership
//! is a pure function of the set of operations held; in which order they arrived
//! does not matter.
//!
//! # Who may do what
//!
//! | | member | owner |
//! | --- | --- | --- |
//! | leave; object to the AI and take it back | yes | yes (the last owner first makes another) |
//! | add; remove members; make a member an owner; title; timer | no | yes |
//! | remove or demote an owner | no | only owners for longer than that one; oneself |
//!
//! # What happens to operations that did not know of each other
//!
//! * Each operation must be allowed by what its author knew, else it is refused
//!   for good.
//! * Removals win: an operation concurrent with the removal of its signer is void,
//!   and so is one that adds (or promotes) whom the other removes (or demotes).
//!   Demotion voids what only an owner may do.
//! * Otherwise removals and demotions come first, then whoever is senior, then the
//!   smaller hash.
//! * Only a senior owner removes an owner. Whoever is removed can therefore not undo
//!   it with an operation that pretends not to know: it would have to remove a
//!   senior, which is refused, or act while being removed, which is void.
//! * An operation that arrives after its device was taken off its account's list
//!   waits until an operation of somebody who is a member without it builds on it.
//!
//! Where nobody is owner any more (two owners left at the same time), membership
//! is frozen: people may leave, nobody can be added.

mod exchange;
mod lists;
mod log;
mod membership;
mod operation;
mod order;

pub use exchange::{export, split};
pub use lists::{ListEvidence, Lists, Verified};
pub use log::{AuthorError, Batch, Fork, Insertion, Lean, Log, Position, Standing};
pub use membership::{Change, MemberState, Membership, Rank, Refusal, VoidReason};
pub use operation::{
    Author, NewMember, Operation, OperationError, OperationKind, UnverifiedOperation,
    VerifiedOperation,
};

pub use crate::proto::MembershipRole;

/// Most members of a conversation; also the relay's limit of recipients in one send.
pub const MAX_MEMBERS: usize = 256;
/// Most operations in one log; a busy conversation has a few dozen.
pub const MAX_OPERATIONS: usize = 4096;
/// Most operations of one device in one log.
pub const MAX_DEVICE_OPERATIONS: u64 = 1024;
/// Most operations that wait because their device was taken off its list.
pub const MAX_WAITING: usize = 64;
/// Longest disappearing timer, in seconds: a year.
pub const MAX_TIMER_S: u32 = 31_536_000;

#[cfg(test)]
mod tests;
