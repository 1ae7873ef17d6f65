//! After a conversation, nothing of it is in what the relay's operator has: not
//! in the files, not in the database opened with its own key, not in what went
//! over the wire, not in any log.

use prost::Message as _;
use wardline_e2e::assistant::Assistant;
use wardline_e2e::clinic::Clinic;
use wardline_e2e::leak::{Leak, Marker, files_under};
use wardline_e2e::member::Member;
use wardline_e2e::process::eventually;
use wardline_wire::proto::Role;

/// Said by the doctor.
const QUESTION: &str = "Zebra7Quartz9Doctor3Falcon";
/// Said by the patient.
const ANSWER: &str = "Heron4Basalt1Patient8Lynx";
/// What the patient is called, here and there.
const NAME: &str = "Otter5Granite2Name6Raven";
/// The title of the conversation.
const TITLE: &str = "Ibis3Marble7Title9Stoat";

fn search(place: &str, bytes: &[u8]) -> Vec<Leak> {
    [QUESTION, ANSWER, NAME, TITLE]
        .into_iter()
        .flat_map(|text| Marker::new(text).find_in(place, bytes))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_conversation_is_anywhere_at_the_relay() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let people = clinic.people_folder()?;
    let doctor = Member::new("doctor", &people)?;
    doctor.enrol(&clinic.invite_link(Role::Staff, Some(("doctor", "The Doctor")))?)?;
    let patient = Member::new(NAME, &people)?;
    patient.enrol(&doctor.invite_patient(NAME)?)?;
    let account = patient.account()?;
    doctor.messages()?;
    let link = clinic.invite_link(Role::Ai, Some(("ai", "Assistant")))?;
    let mut assistant = Assistant::enrol(&people.join("assistant"), &link)?;
    assistant.run()?;
    let created = doctor.run([
        "conversations",
        "create",
        "--title",
        TITLE,
        "--member",
        &account,
        "--member",
        "@ai",
    ])?;
    let conversation = created[0]["id"].as_str().unwrap_or_default().to_owned();
    doctor.run(["send", &conversation, QUESTION])?;
    let shown = patient.messages()?;
    assert!(shown.iter().any(|message| message.text == QUESTION));
    patient.run(["send", &conversation, ANSWER])?;
    let shown = doctor.messages()?;
    assert!(shown.iter().any(|message| message.text == ANSWER));
    // The assistant reads and answers; what it logs is searched as well.
    doctor.run([
        "send",
        &conversation,
        &format!("@ai what about {QUESTION}?"),
    ])?;
    eventually("an answer", || async {
        let messages = doctor.messages()?;
        Ok(messages
            .iter()
            .any(|shown| shown.kind == "answer")
            .then_some(()))
    })
    .await?;
    // One more that nobody fetches, so that a mailbox holds something.
    doctor.run(["send", &conversation, QUESTION])?;

    let mut leaks = Vec::new();
    let dump = clinic.relay.dump().await?;
    let stored = dump
        .iter()
        .filter(|(place, bytes)| place == "envelopes.ciphertext" && bytes.len() > QUESTION.len());
    assert!(stored.count() > 0, "the relay holds no envelope to search");
    for (place, bytes) in &dump {
        leaks.extend(search(place, bytes));
    }
    let mut searched = 0;
    for folder in [
        clinic.relay.folder().to_path_buf(),
        clinic.folder().join("authority"),
    ] {
        for file in files_under(&folder)? {
            searched += 1;
            let place = file.display().to_string();
            leaks.extend(search(&place, &std::fs::read(&file)?));
            leaks.extend(search("a file's name", place.as_bytes()));
        }
    }
    assert!(searched > 3, "only {searched} files were searched");
    for (place, log) in [
        ("the relay's log", clinic.relay.log()?),
        ("the authority's log", clinic.authority.log()?),
        ("the assistant's log", assistant.log()?),
    ] {
        assert!(!log.is_empty(), "{place} is empty");
        leaks.extend(search(place, log.as_bytes()));
    }
    // At its most talkative, the client's own log says nothing either.
    let talkative = patient.attempt(["-vv", "status"])?;
    leaks.extend(search("the patient's log", &talkative.stderr));
    let exchanges = clinic.hostile.exchanges();
    assert!(!exchanges.is_empty());
    for exchange in exchanges {
        leaks.extend(search(&exchange.path, &exchange.request));
        leaks.extend(search(&exchange.path, &exchange.answer));
        leaks.extend(search("a path", exchange.path.as_bytes()));
    }
    let envelopes = clinic.hostile.all_seen();
    assert!(
        envelopes.len() >= 2,
        "{} envelopes went by",
        envelopes.len()
    );
    for envelope in envelopes {
        leaks.extend(search("an envelope", &envelope.encode_to_vec()));
    }
    assert_eq!(leaks, []);
    // The search itself finds what is there: the doctor's own device shows the words.
    let own = doctor.attempt(["messages"])?;
    assert!(!search("the doctor's screen", &own.stdout).is_empty());
    clinic.check_no_panic()
}
