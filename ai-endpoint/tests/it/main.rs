//! The AI endpoint's model clients and its pipeline against the Ollama stand-in.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail loudly"
)]

mod boundary;
mod clinic;
mod hostile;
mod ollama;
mod openai;
mod pipeline;
mod recordings;
mod support;
