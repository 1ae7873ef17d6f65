//! Whatever is typed or pasted, the answer is a sentence and an exit status;
//! nothing is stored, nothing panics.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use serde_json::Value;
use wardline_e2e::clinic::Clinic;
use wardline_e2e::member::{Member, json_lines};
use wardline_e2e::process::{binary, run};
use wardline_wire::proto::Role;

/// The error of a command that failed as it should: status and sentence.
fn refusal(output: &Output) -> anyhow::Result<(i32, String)> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    let status = output.status.code().context("killed by a signal")?;
    assert_ne!(status, 0, "it was taken");
    let lines = json_lines(&String::from_utf8_lossy(&output.stdout))?;
    let message = lines
        .iter()
        .find_map(|line| line.pointer("/error/message").and_then(Value::as_str))
        .with_context(|| format!("no error in {lines:?}"))?;
    assert!(message.split_whitespace().count() >= 4, "{message:?}");
    Ok((status, message.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_invites_are_refused_before_anything_is_sent() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let good = clinic.invite_link(Role::Patient, None)?;
    let member = Member::new("newcomer", &clinic.people_folder()?)?;
    let before = clinic.hostile.exchanges().len();
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let links = [
        String::new(),
        "hello".to_owned(),
        "https://example.org/join".to_owned(),
        "wardline:join/".to_owned(),
        "wardline:join/%%%".to_owned(),
        good[..good.len() - 3].to_owned(),
        format!("{good}AAAA"),
        String::from_utf8(flipped)?,
        format!("wardline:join/{}", "A".repeat(100_000)),
        good.replace("wardline:", "WARDLINE:"),
    ];
    for link in links {
        let output = member.attempt(["enroll", &link])?;
        let shown: String = link.chars().take(60).collect();
        let (status, message) = refusal(&output).with_context(|| shown.clone())?;
        assert_eq!(status, 1, "{shown}: {message}");
        assert!(!message.contains(&good), "the secret is in the message");
    }
    let by_newcomer = clinic.hostile.exchanges().len() - before;
    let enrolments = clinic
        .hostile
        .exchanges()
        .iter()
        .filter(|exchange| exchange.path == "/v1/enrolments")
        .count();
    assert_eq!(enrolments, 0, "of {by_newcomer} requests");
    member.enrol(&good)?;
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_invite_is_refused_with_the_reason() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let mut invite = clinic.invite(Role::Patient)?;
    invite.expires_at = wardline_e2e::spare::now().minus_millis(1000);
    let member = Member::new("late", &clinic.people_folder()?)?;
    let (status, message) = refusal(&member.attempt(["enroll", &invite.to_link()])?)?;
    assert_eq!(status, 1);
    assert!(message.contains("expired"), "{message}");
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_not_utf8_is_not_sent() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let people = clinic.people_folder()?;
    let doctor = Member::new("doctor", &people)?;
    doctor.enrol(&clinic.invite_link(Role::Staff, Some(("doctor", "The Doctor")))?)?;
    let nurse = Member::new("nurse", &people)?;
    nurse.enrol(&clinic.invite_link(Role::Staff, Some(("nurse", "The Nurse")))?)?;
    let sends = clinic.hostile.sends().len();
    let mut child = doctor
        .command(["send", "@nurse", "-"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(b"caf\xE9 \xFF")?;
    let (status, message) = refusal(&child.wait_with_output()?)?;
    assert_eq!(status, 1);
    assert!(message.contains("UTF-8"), "{message}");
    assert_eq!(clinic.hostile.sends().len(), sends);
    for bad in [
        vec!["send", "@nobody-here", "hello"],
        vec!["send", "", "hello"],
        vec!["send", "@nurse", ""],
        vec!["contacts", "find", "NOT A HANDLE"],
        vec!["conversations", "add", "ffffffffffff", "@nurse"],
    ] {
        let output = doctor.attempt(&bad)?;
        refusal(&output).with_context(|| format!("{bad:?}"))?;
    }
    clinic.check_no_panic()
}

#[test]
fn wrong_usage_has_a_status_of_its_own() -> anyhow::Result<()> {
    for program in ["wardline", "wardline-authority"] {
        let output = run(Command::new(binary(program)?).arg("no-such-command"))?;
        assert_eq!(output.status.code(), Some(64), "{program}");
        let help = run(Command::new(binary(program)?).arg("--help"))?;
        assert_eq!(help.status.code(), Some(0), "{program}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_settings_of_the_authority_are_named() -> anyhow::Result<()> {
    let mut clinic = Clinic::open().await?;
    clinic.authority.kill()?;
    let settings = clinic.authority.folder().join("authority.toml");
    std::fs::write(settings, "relay_ulr = \"http://127.0.0.1:1\"\n")?;
    let output = run(clinic
        .authority
        .command()?
        .args(["--json", "serve", "--dir"])
        .arg(clinic.authority.folder()))?;
    let (_, message) = refusal(&output)?;
    assert!(message.contains("relay_ulr"), "{message}");
    Ok(())
}
