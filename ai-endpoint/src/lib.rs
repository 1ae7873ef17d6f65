//! Wardline's AI endpoint: a device whose user is a model.
//!
//! It is a member of a conversation like any other, with keys of its own, so everyone sees it. What it reads was
//! encrypted to it; what it says is encrypted by it. In between:
//!
//! ```text
//! message -> policy -> redflag -> injection -> sensitivity -> retrieval -> prompt -> model -> output -> answer
//!            may I?    emergency? commands?    how private?   documents   window    boundary  screen   provenance
//! ```
//!
//! Everything up to `prompt` and after `model` is pure and tested by tables. [`pipeline`] puts it together; only
//! [`model`] talks to anything, and only inside the [`boundary`].

pub mod answer;
pub mod boundary;
pub mod config;
pub mod injection;
pub mod model;
pub mod output;
pub mod participant;
pub mod pipeline;
pub mod policy;
pub mod prompt;
pub mod redflag;
pub mod retrieval;
pub mod seat;
pub mod sensitivity;
pub mod service;
