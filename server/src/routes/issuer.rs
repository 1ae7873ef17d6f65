//! The issuer's desk.

pub(crate) mod admit_invite;
pub(crate) mod decide;
pub(crate) mod enrolments;
pub(crate) mod publish_issuer;
pub(crate) mod publish_revocations;
