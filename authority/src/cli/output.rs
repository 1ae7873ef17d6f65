//! Data on standard output, words on standard error.

use std::io::Write as _;

use serde_json::{Value, json};

use super::failure::Failure;

pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// Prints the result: `value` with `--json`, else `text`.
    pub(super) fn data(&self, value: &Value, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = if self.json {
            writeln!(out, "{value}")
        } else {
            writeln!(out, "{}", text.trim_end())
        };
        written
            .and_then(|()| out.flush())
            .map_err(|error| Failure::io("standard output", &error))
    }

    /// Says something to whoever is watching.
    pub(super) fn say(&self, text: &str) {
        if !self.json {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Says a warning, also beside JSON.
    #[expect(clippy::unused_self, reason = "reads like its siblings")]
    pub(super) fn warn(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "warning: {text}");
    }

    pub(super) fn failure(&self, failure: &Failure) {
        if self.json {
            let value = json!({ "error": {
                "code": failure.code,
                "kind": failure.kind,
                "message": failure.message,
                "hint": failure.hint,
            }});
            let _ = writeln!(std::io::stdout().lock(), "{value}");
        } else {
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "error: {}", failure.message);
            if let Some(hint) = &failure.hint {
                let _ = writeln!(err, "hint: {hint}");
            }
        }
    }
}
