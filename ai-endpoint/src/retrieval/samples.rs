//! The sample texts that come with Wardline, for trying it out. A clinic replaces them with its own.

use super::documents::Document;

/// All of them, sorted by file.
pub(super) fn all() -> Vec<Document> {
    FILES
        .iter()
        .map(|(file, text)| Document {
            file: (*file).to_owned(),
            text: (*text).to_owned(),
        })
        .collect()
}

const FILES: [(&str, &str); 15] = [
    (
        "asthma-inhaler.md",
        include_str!("../../knowledge/asthma-inhaler.md"),
    ),
    (
        "blood-pressure-at-home.md",
        include_str!("../../knowledge/blood-pressure-at-home.md"),
    ),
    (
        "clinic-hours-and-appointments.md",
        include_str!("../../knowledge/clinic-hours-and-appointments.md"),
    ),
    (
        "diabetes-foot-care.md",
        include_str!("../../knowledge/diabetes-foot-care.md"),
    ),
    (
        "fasting-before-blood-test.md",
        include_str!("../../knowledge/fasting-before-blood-test.md"),
    ),
    (
        "fever-in-children.md",
        include_str!("../../knowledge/fever-in-children.md"),
    ),
    (
        "medicines-after-surgery.md",
        include_str!("../../knowledge/medicines-after-surgery.md"),
    ),
    (
        "physiotherapy-after-knee-surgery.md",
        include_str!("../../knowledge/physiotherapy-after-knee-surgery.md"),
    ),
    (
        "preparing-for-surgery.md",
        include_str!("../../knowledge/preparing-for-surgery.md"),
    ),
    (
        "privacy-and-this-assistant.md",
        include_str!("../../knowledge/privacy-and-this-assistant.md"),
    ),
    (
        "repeat-prescriptions.md",
        include_str!("../../knowledge/repeat-prescriptions.md"),
    ),
    ("sleep.md", include_str!("../../knowledge/sleep.md")),
    (
        "stomach-flu.md",
        include_str!("../../knowledge/stomach-flu.md"),
    ),
    (
        "vaccinations.md",
        include_str!("../../knowledge/vaccinations.md"),
    ),
    (
        "wound-care.md",
        include_str!("../../knowledge/wound-care.md"),
    ),
];
