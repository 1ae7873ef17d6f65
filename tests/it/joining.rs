//! Attacks on joining: nobody gets in without an invite that a person made, and
//! an invite lets in the key that it was redeemed with and no other.

use prost::Message as _;
use reqwest::Method;
use wardline_e2e::clinic::Clinic;
use wardline_e2e::insider::Insider;
use wardline_e2e::process::eventually;
use wardline_e2e::spare::{SpareAccount, random};
use wardline_wire::directory::{CertificateError, VerifiedCertificate};
use wardline_wire::ids::AccountId;
use wardline_wire::invite::InviteSecret;
use wardline_wire::problem::ProblemKind;
use wardline_wire::proto::{
    self, AccountStatus, EnrolmentDecision, EnrolmentRequest, PendingEnrolment, PendingEnrolments,
    Role,
};

/// Which accounts the issuer certified so far, as the relay's operator sees it.
fn certified(clinic: &Clinic) -> Vec<AccountId> {
    clinic
        .hostile
        .exchanges()
        .into_iter()
        .filter(|exchange| exchange.path == "/v1/issuer/decisions")
        .filter_map(|exchange| EnrolmentDecision::decode(exchange.request.as_slice()).ok())
        .filter(|decision| decision.certificate.is_some())
        .filter_map(|decision| AccountId::from_slice(&decision.account_id).ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_invite_certifies_nobody() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    // The relay makes an invite of its own and lays the enrolment on the issuer's desk.
    let thief = SpareAccount::generate(&clinic.relay.url(), clinic.deployment())?;
    let mut minted = clinic.invite(Role::Staff)?;
    minted.secret = InviteSecret::new(random());
    let pending = PendingEnrolment {
        request: Some(thief.enrolment(&minted)),
        sealed_request: Vec::new(),
    };
    // Once as the authority's own invite, once as a member's that nobody can have sealed.
    let mut forged = pending.clone();
    forged.sealed_request = random::<200>().to_vec();
    clinic.hostile.alter_answers::<PendingEnrolments>(
        "GET",
        "/v1/issuer/enrolments",
        move |_, desk| desk.enrolments.extend([pending.clone(), forged.clone()]),
    );
    // The desk goes on working: refused, and an honest newcomer is certified beside it.
    let newcomer = clinic.spare(Role::Patient).await?;
    assert!(certified(&clinic).contains(&newcomer.id));
    assert!(!certified(&clinic).contains(&thief.id));
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_invite_is_refused_for_another_key() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let invite = clinic.invite(Role::Patient)?;
    let owner = SpareAccount::enrol(&clinic.relay.url(), &invite).await?;
    let thief = SpareAccount::generate(&clinic.relay.url(), clinic.deployment())?;
    let enrol = async |request: EnrolmentRequest| {
        let body = request.encode_to_vec();
        let path = "/v1/enrolments";
        thief.http.request(Method::POST, path, None, body).await
    };
    let refused = enrol(thief.enrolment(&invite)).await?;
    assert_eq!(refused.problem_kind()?, ProblemKind::InviteUsed);
    // Nor for the same account under another key.
    let mut same_account = thief.clone();
    same_account.id = owner.id;
    for device in &mut same_account.devices {
        device.address.account = owner.id;
    }
    same_account.lists.clear();
    let list = same_account.sign_list(&[1])?;
    same_account.lists.push(list);
    let refused = enrol(same_account.enrolment(&invite)).await?;
    assert_eq!(refused.problem_kind()?, ProblemKind::InviteUsed);
    // The owner's own repetition is no theft.
    let again = enrol(owner.enrolment(&invite)).await?;
    assert_eq!(again.status, 200);
    assert_eq!(
        owner.look_up(owner.id).await?.status(),
        AccountStatus::Active
    );
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_stolen_by_the_relay_certifies_nobody() -> anyhow::Result<()> {
    let clinic = Clinic::open().await?;
    let invite = clinic.invite(Role::Staff)?;
    let thief = SpareAccount::generate(&clinic.relay.url(), clinic.deployment())?;
    // The relay sees invite id and proof go by, and puts its own keys in their place.
    let stolen = thief.enrolment(&invite);
    let of_thief = stolen.clone();
    clinic.hostile.alter_requests::<EnrolmentRequest>(
        "POST",
        "/v1/enrolments",
        move |_, request| {
            let proof = std::mem::take(&mut request.proof);
            *request = of_thief.clone();
            request.proof = proof;
        },
    );
    let victim = SpareAccount::generate(&clinic.hostile.url(), clinic.deployment())?;
    let body = victim.enrolment(&invite).encode_to_vec();
    let answer = victim
        .http
        .request(Method::POST, "/v1/enrolments", None, body)
        .await?;
    // The answer is about somebody else: that alone gives the relay away.
    let record: proto::AccountRecord = answer.message()?;
    assert_ne!(record.account_id, victim.id.as_bytes());
    clinic.hostile.be_honest();
    // The proof binds the victim's key, so the issuer refuses the thief's.
    let refused = eventually("the issuer to decide", || async {
        let answer = thief.try_log_in(1).await?;
        Ok((answer.status != 200).then_some(answer))
    })
    .await?;
    assert_eq!(refused.problem_kind()?, ProblemKind::Revoked);
    assert!(!certified(&clinic).contains(&thief.id));
    clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insider_issuer_cannot_exceed_its_roles() -> anyhow::Result<()> {
    let clinic = Clinic::builder()
        .issuer_roles(&[Role::Patient, Role::Staff])
        .open()
        .await?;
    let insider = Insider::steal(clinic.authority.folder(), clinic.deployment())?;
    let account = SpareAccount::generate(&clinic.relay.url(), clinic.deployment())?;
    let certificate = insider.certify(
        account.id,
        &account.key.verifying_key(),
        Role::Admin,
        Some(("boss", "The Boss")),
    );
    let refused = VerifiedCertificate::verify(
        &certificate,
        account.id,
        clinic.anchor(),
        None,
        wardline_e2e::spare::now(),
    );
    assert_eq!(refused, Err(CertificateError::RoleNotAllowed));
    clinic.check_no_panic()
}
