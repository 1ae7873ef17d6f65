//! What Wardline's whole-system tests are made of.
//!
//! * [`process`]: real binaries, started, watched and stopped by process id.
//! * [`clinic`]: a whole clinic in one call.
//! * [`authority`]: the real directory authority.
//! * [`relay`]: the real relay, and what its operator can do to it.
//! * [`hostile`]: a relay that lies, between endpoints and a real relay.
//! * [`world`]: people with real endpoints, in a clinic whose relay may lie to them.
//! * [`spare`]: an account that speaks the protocol by hand, well or badly.
//! * [`insider`]: an issuer turned bad.
//! * [`leak`]: looking for plaintext where none may be.
//! * [`member`]: somebody who uses `wardline`, one command at a time.
//! * [`assistant`]: the AI endpoint, in a process of its own.
//! * [`kill`]: `kill -9` at random points of a conversation.
//! * [`ollama`]: a scriptable stand-in for an Ollama server.

pub mod assistant;
pub mod authority;
pub mod clinic;
pub mod hostile;
pub mod insider;
pub mod kill;
pub mod leak;
pub mod member;
pub mod ollama;
pub mod process;
pub mod relay;
pub mod spare;
pub mod world;

/// Makes ring the process's TLS provider. Everything here is plain loopback,
/// but the HTTP client asks for one all the same.
pub fn install_tls() {
    // A second call finds it installed: fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
