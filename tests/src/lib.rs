//! What Wardline's whole-system tests are made of.

pub mod ollama;
