//! The signed membership log of a conversation.
