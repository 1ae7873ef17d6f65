//! What Wardline's whole-system tests are made of.
//!
//! * [`process`]: real binaries, started, watched and stopped by process id.
//! * [`hostile`]: a relay that lies, between endpoints and a real relay.
//! * [`ollama`]: a scriptable stand-in for an Ollama server.

pub mod hostile;
pub mod ollama;
pub mod process;

/// Makes ring the process's TLS provider. Everything here is plain loopback,
/// but the HTTP client asks for one all the same.
pub fn install_tls() {
    // A second call finds it installed: fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
