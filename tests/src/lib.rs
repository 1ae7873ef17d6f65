//! What Wardline's whole-system tests are made of.
//!
//! * [`process`]: real binaries, started, watched and stopped by process id.
//! * [`hostile`]: a relay that lies, between endpoints and a real relay.
//! * [`spare`]: an account that speaks the protocol by hand, well or badly.
//! * [`leak`]: looking for plaintext where none may be.
//! * [`ollama`]: a scriptable stand-in for an Ollama server.

pub mod hostile;
pub mod leak;
pub mod ollama;
pub mod process;
pub mod spare;

/// Makes ring the process's TLS provider. Everything here is plain loopback,
/// but the HTTP client asks for one all the same.
pub fn install_tls() {
    // A second call finds it installed: fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
