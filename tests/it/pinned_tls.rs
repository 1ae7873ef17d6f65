//! Somebody on the network who shows a TLS key of their own is found out by the
//! key in the invite, however good their certificate looks.

use serde_json::Value;
use wardline_e2e::clinic::Clinic;
use wardline_e2e::member::{Member, json_lines};
use wardline_e2e::process::run;
use wardline_wire::proto::Role;

// Verdict: refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_tls_key_is_refused() -> anyhow::Result<()> {
    let mut clinic = Clinic::builder().tls().open().await?;
    let people = clinic.people_folder()?;
    let doctor = Member::new("doctor", &people)?;
    doctor.enrol(&clinic.invite_link(Role::Staff, Some(("doctor", "The Doctor")))?)?;
    doctor.run(["status"])?;
    let link = clinic.invite_link(Role::Staff, Some(("late", "Late Comer")))?;
    // An impostor takes the relay's place: everything is the same but the key.
    clinic.relay.stop()?;
    clinic.relay.prepare_tls()?;
    clinic.relay.start()?;
    let late = Member::new("late", &people)?;
    let output = late.attempt(["enroll", &link, "--wait", "5"])?;
    assert!(!output.status.success());
    let lines = json_lines(&String::from_utf8_lossy(&output.stdout))?;
    let message = lines
        .iter()
        .find_map(|line| line.pointer("/error/message").and_then(Value::as_str))
        .unwrap_or_default();
    assert!(message.contains("key"), "{message:?}");
    // Nor does the authority talk to it.
    let output = run(clinic
        .authority
        .command()?
        .args(["--json", "list", "--dir"])
        .arg(clinic.authority.folder())
        .args(["--relay-url", &clinic.relay.url()])
        .args(["--relay-key", &"0".repeat(64)]))?;
    assert_eq!(output.status.code(), Some(4));
    clinic.check_no_panic()
}
