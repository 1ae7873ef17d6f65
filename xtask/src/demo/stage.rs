//! What the audience sees: a line for each thing that somebody says, reads or holds.

use serde_json::{Value, json};

/// Who acts.
#[derive(Clone, Copy)]
pub(super) enum Who {
    Patient,
    Clinician,
    Ai,
    Relay,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Clinician => "clinician",
            Self::Ai => "ai",
            Self::Relay => "relay",
        }
    }
}

/// Prints for people, or JSON for programs.
pub(super) struct Stage {
    json: bool,
}

impl Stage {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn heading(&self, text: &str) {
        if !self.json {
            println!("\n── {text} ──");
        }
    }

    /// Words about the run, beside it.
    pub(super) fn remark(&self, text: &str) {
        if !self.json {
            println!("\n({text})");
        }
    }

    pub(super) fn tell(&self, who: Who, event: &str, text: &str) {
        self.tell_with(who, event, text, &Value::Null);
    }

    /// Like [`tell`](Self::tell), with details: the fields of an object.
    pub(super) fn tell_with(&self, who: Who, event: &str, text: &str, details: &Value) {
        if self.json {
            println!(
                "{}",
                json!({ "who": who.name(), "event": event, "text": text, "details": details })
            );
            return;
        }
        if event == "partial" {
            // The whole answer follows; a moving end is all that is worth showing.
            let tail: String = text
                .chars()
                .rev()
                .take(50)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect();
            println!("{:>9} │ {event}: … {}", who.name(), tail.replace('\n', " "));
            return;
        }
        let mut lines = text.lines();
        println!(
            "{:>9} │ {event}: {}",
            who.name(),
            lines.next().unwrap_or_default()
        );
        for line in lines {
            println!("{:>9} │   {line}", "");
        }
        if details.get("cut").and_then(Value::as_bool) == Some(true) {
            println!("{:>9} │   [This answer was cut.]", "");
        }
        for citation in details
            .get("citations")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let part = |name: &str| {
                citation
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            println!(
                "{:>9} │   source: {}, {} ({})",
                "",
                part("title"),
                part("section"),
                part("file")
            );
        }
        if let Some(backend) = details.get("backend").and_then(Value::as_str) {
            let model = details
                .get("model")
                .and_then(Value::as_str)
                .unwrap_or_default();
            println!("{:>9} │   answered by: {backend} {model}", "");
        }
        if let Some(disclaimer) = details.get("disclaimer").and_then(Value::as_str) {
            println!("{:>9} │   {disclaimer}", "");
        }
    }
}
