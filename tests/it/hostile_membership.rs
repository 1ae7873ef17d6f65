//! Attacks on who is in a conversation. Membership is the members' own signed
//! log: the relay carries it and has no say in it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use prost::Message as _;
use wardline_client::api::{ConversationId, NoticeKind};
use wardline_client::proto::operation::Kind as Op;
use wardline_client::proto::{self as inside, content::Kind};
use wardline_e2e::process::eventually;
use wardline_e2e::spare::{SpareAccount, Voice, now, random};
use wardline_e2e::world::{Person, World};
use wardline_wire::ids::AccountId;
use wardline_wire::proto::{Certificate, Envelope, SignedBlob};
use wardline_wire::signed::{SignedBlobExt as _, SignedKind};

/// Who is in a conversation, as somebody's endpoint sees it.
async fn members(person: &Person, id: ConversationId) -> anyhow::Result<BTreeSet<AccountId>> {
    let conversations = person.client.conversations().await?;
    let found = conversations
        .into_iter()
        .find(|conversation| conversation.id == id);
    Ok(found
        .map(|conversation| conversation.members.iter().map(|m| m.account).collect())
        .unwrap_or_default())
}

/// Waits until somebody's endpoint sees exactly these members.
async fn until_members(
    person: &Person,
    id: ConversationId,
    expected: &[AccountId],
) -> anyhow::Result<()> {
    let expected: BTreeSet<AccountId> = expected.iter().copied().collect();
    eventually(&format!("{} to see the members", person.name), || async {
        Ok((members(person, id).await? == expected).then_some(()))
    })
    .await
}

/// A doctor, two patients of hers, and their conversation.
async fn ward() -> anyhow::Result<(World, Person, Person, Person, ConversationId)> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    let carol = world.patient("carol", &alice).await?;
    let everybody = [alice.account(), bob.account(), carol.account()];
    let ward = alice
        .client
        .create_conversation(Some("ward".to_owned()), everybody[1..].to_vec())
        .await?;
    until_members(&bob, ward, &everybody).await?;
    until_members(&carol, ward, &everybody).await?;
    alice.says("welcome").within(ward).await?;
    bob.hears("welcome").await?;
    carol.hears("welcome").await?;
    Ok((world, alice, bob, carol, ward))
}

// Verdict: refused. What an owner does at the time of her own removal is void.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_owner_cannot_undo_the_removal() -> anyhow::Result<()> {
    let (world, alice, bob, carol, ward) = ward().await?;
    alice.client.promote(ward, bob.account()).await?;
    alice.says("bob helps me").within(ward).await?;
    bob.hears("bob helps me").await?;
    carol.hears("bob helps me").await?;
    // Bob is removed; the relay, on his side, keeps it from him while he acts.
    world.clinic.hostile.hold(bob.address);
    alice.client.remove_member(ward, bob.account()).await?;
    until_members(&carol, ward, &[alice.account(), carol.account()]).await?;
    bob.client.remove_member(ward, carol.account()).await?;
    bob.hands_in("I am still here", ward).await?;
    world.clinic.hostile.let_through(bob.address)?;
    until_members(&bob, ward, &[alice.account(), carol.account()]).await?;
    alice.says("bob is gone").within(ward).await?;
    carol.hears("bob is gone").await?;
    let left = [alice.account(), carol.account()];
    until_members(&alice, ward, &left).await?;
    until_members(&carol, ward, &left).await?;
    assert!(!bob.heard().await?.contains(&"bob is gone".to_owned()));
    world.clinic.check_no_panic()
}

// Verdict: gap shown, and closed: the operation is asked of the members.
#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_operation_is_noticed_and_fetched() -> anyhow::Result<()> {
    let (world, alice, bob, carol, ward) = ward().await?;
    let dave = world.patient("dave", &alice).await?;
    let hostile = &world.clinic.hostile;
    hostile.hold(carol.address);
    alice.client.add_member(ward, dave.account()).await?;
    let all = [
        alice.account(),
        bob.account(),
        carol.account(),
        dave.account(),
    ];
    until_members(&bob, ward, &all).await?;
    // Carol's copy is dropped; the next message names heads that she lacks.
    hostile.held(carol.address, 1).await?;
    hostile.let_through(carol.address)?;
    alice.says("dave is with us").within(ward).await?;
    carol.hears("dave is with us").await?;
    until_members(&carol, ward, &all).await?;
    world.clinic.check_no_panic()
}

/// A spare account's hand-made contribution to a conversation.
struct Forger {
    account: SpareAccount,
    voice: Voice,
    said: BTreeMap<AccountId, u64>,
}

impl Forger {
    async fn new(world: &World, handle: &str) -> anyhow::Result<Self> {
        let account = world.clinic.spare_called(handle).await?;
        account.upload_prekeys(1, 1, 10).await?;
        let voice = Voice::of(&account, 1)?;
        Ok(Self {
            account,
            voice,
            said: BTreeMap::new(),
        })
    }

    fn next_sequence(&mut self, to: &Person) -> u64 {
        let said = self.said.entry(to.account()).or_default();
        *said += 1;
        *said
    }

    /// Somebody as a member.
    fn member(account: AccountId, key: [u8; 32], is_owner: bool) -> inside::Member {
        let role = if is_owner {
            inside::MembershipRole::Owner
        } else {
            inside::MembershipRole::Member
        };
        inside::Member {
            account_id: account.to_vec(),
            account_key: key.to_vec(),
            role: role.into(),
        }
    }

    /// The certified key of somebody.
    async fn key_of(&self, account: AccountId) -> anyhow::Result<[u8; 32]> {
        let record = self.account.look_up(account).await?;
        let chain = record.certificate.context("not certified")?;
        let blob = chain.certificate.context("no certificate")?;
        let certificate = Certificate::decode(blob.payload.as_slice())?;
        certificate
            .account_key
            .try_into()
            .map_err(|_| anyhow::anyhow!("the key has another length"))
    }

    /// An operation that claims to be `author`'s and is signed with our key. The
    /// first one of a conversation has neither conversation nor parents.
    fn operation(
        &self,
        conversation: Option<ConversationId>,
        author: AccountId,
        sequence: u64,
        kind: Op,
    ) -> anyhow::Result<SignedBlob> {
        let conversation_id = conversation.map(|id| id.as_bytes().to_vec());
        // The conversation's id is the hash of its first operation: a parent that exists.
        let parents = conversation_id.clone().into_iter().collect();
        let list = self.account.list_ref();
        let operation = inside::Operation {
            conversation_id: conversation_id.unwrap_or_default(),
            parents,
            author_account_id: author.to_vec(),
            author_device_id: 1,
            author_list_version: list.version,
            author_list_hash: list.hash,
            author_sequence: sequence,
            created_at_ms: now().as_millis(),
            kind: Some(kind),
        };
        let key = &self.account.device(1)?.device_key;
        Ok(SignedBlob::sign(
            SignedKind::ConversationOperation,
            self.account.deployment,
            operation.encode_to_vec(),
            key,
        ))
    }

    /// Says it to somebody, in real sessions.
    async fn tell(
        &mut self,
        world: &World,
        to: &Person,
        conversation: ConversationId,
        operations: Vec<SignedBlob>,
    ) -> anyhow::Result<()> {
        let evidence = inside::AccountEvidence {
            account_id: self.account.id.to_vec(),
            account_key: self.account.key.verifying_key().to_bytes().to_vec(),
            certificate: self.account.look_up(self.account.id).await?.certificate,
            device_lists: self.account.lists.clone(),
        };
        let last = operations.last().map(SignedBlob::payload_hash);
        let heads = last.map(|hash| hash.to_vec()).into_iter().collect();
        let update = inside::ConversationUpdate {
            operations,
            evidence: vec![evidence],
            ..inside::ConversationUpdate::default()
        };
        let content = inside::Content {
            content_id: random::<16>().to_vec(),
            conversation_id: conversation.as_bytes().to_vec(),
            sequence: self.next_sequence(to),
            sent_at_ms: now().as_millis(),
            sender_list: Some(self.account.list_ref()),
            recipient_list: Some(self.account.list_ref_of(to.account()).await?),
            heads,
            kind: Some(Kind::Conversation(update)),
            ..inside::Content::default()
        };
        let sealed = self
            .voice
            .encrypt(to.account(), &content.encode_to_vec())
            .await?;
        let envelopes = sealed.into_iter().map(|ciphertext| Envelope {
            sender_account_id: self.account.id.to_vec().into(),
            sender_device_id: 1,
            r#type: ciphertext.r#type,
            ciphertext: ciphertext.ciphertext,
            ..Envelope::default()
        });
        world
            .clinic
            .hostile
            .release(to.address, envelopes.collect())
    }
}

// Verdict: refused. Neither under her own name nor under an owner's does an outsider get in.
#[tokio::test(flavor = "multi_thread")]
async fn an_outsiders_operation_adds_nobody() -> anyhow::Result<()> {
    let (world, alice, bob, carol, ward) = ward().await?;
    let mut mallory = Forger::new(&world, "mallory").await?;
    bob.client.lookup_account(mallory.account.id).await?;
    bob.client.accept_request(mallory.account.id).await?;
    let everybody = [alice.account(), bob.account(), carol.account()];
    let add = Op::Add(inside::Add {
        member: Some(Forger::member(
            mallory.account.id,
            mallory.account.key.verifying_key().to_bytes(),
            true,
        )),
    });
    for author in [mallory.account.id, alice.account()] {
        let operation = mallory.operation(Some(ward), author, 1, add.clone())?;
        mallory.tell(&world, &bob, ward, vec![operation]).await?;
    }
    alice.says("just us").within(ward).await?;
    bob.hears("just us").await?;
    for person in [&alice, &bob, &carol] {
        until_members(person, ward, &everybody).await?;
    }
    let to_mallory = world.clinic.hostile.sends().into_iter().any(|(_, send)| {
        send.recipients.len() > 1
            && send
                .recipients
                .iter()
                .any(|r| r.account_id == mallory.account.id.as_bytes())
    });
    assert!(!to_mallory, "the outsider was written to with the others");
    world.clinic.check_no_panic()
}

// Verdict: shown, and healed: an owner who tells two members two stories is found out when they
// talk to each other, and both end with the same members.
#[tokio::test(flavor = "multi_thread")]
async fn a_forked_log_is_shown_and_comes_together() -> anyhow::Result<()> {
    let world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    let carol = world.patient("carol", &alice).await?;
    let dave = world.patient("dave", &alice).await?;
    let erin = world.patient("erin", &alice).await?;
    let mut oscar = Forger::new(&world, "oscar").await?;
    let owner = oscar.account.id;
    // Bob and Carol may write to each other: Alice has brought them together.
    let everybody = vec![bob.account(), carol.account()];
    let ward = alice.client.create_conversation(None, everybody).await?;
    alice.says("you two know each other").within(ward).await?;
    for person in [&bob, &carol] {
        person.hears("you two know each other").await?;
        person.client.lookup_account(owner).await?;
    }
    let mut members = vec![Forger::member(
        owner,
        oscar.account.key.verifying_key().to_bytes(),
        true,
    )];
    for person in [&bob, &carol] {
        let key = oscar.key_of(person.account()).await?;
        members.push(Forger::member(person.account(), key, false));
    }
    let create = oscar.operation(
        None,
        owner,
        1,
        Op::Create(inside::Create {
            nonce: random::<32>().to_vec(),
            title_hash: Vec::new(),
            members,
        }),
    )?;
    let forked = ConversationId::from_slice(create.payload_hash().as_bytes())?;
    for (told, added) in [(&bob, &dave), (&carol, &erin)] {
        let key = oscar.key_of(added.account()).await?;
        let member = Some(Forger::member(added.account(), key, false));
        let add = Op::Add(inside::Add { member });
        // Both are his second operation: he signs two truths.
        let second = oscar.operation(Some(forked), owner, 2, add)?;
        let story = vec![create.clone(), second];
        oscar.tell(&world, told, forked, story).await?;
        until_members(
            told,
            forked,
            &[owner, bob.account(), carol.account(), added.account()],
        )
        .await?;
    }
    bob.hands_in("what do you see?", forked).await?;
    carol.hears("what do you see?").await?;
    let told = eventually("somebody to be told", || async {
        for person in [&bob, &carol] {
            let notices = person.notices().await?;
            let about_him = notices
                .into_iter()
                .find(|n| n.kind == NoticeKind::OperationRefused && n.account == Some(owner));
            if about_him.is_some() {
                return Ok(about_him);
            }
        }
        Ok(None)
    })
    .await?;
    assert_eq!(told.conversation, Some(forked));
    carol.hands_in("now I see it too", forked).await?;
    bob.hears("now I see it too").await?;
    eventually("the same members for both", || async {
        let same = self::members(&bob, forked).await? == self::members(&carol, forked).await?;
        Ok(same.then_some(()))
    })
    .await?;
    world.clinic.check_no_panic()
}
