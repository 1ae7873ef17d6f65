//! The operator puts an older database in place: to undo a revocation, to hand
//! out prekeys twice, to make messages vanish, or because the disk broke.

use wardline_client::api::NoticeKind;
use wardline_e2e::process::{PATIENCE, succeed};
use wardline_e2e::world::World;

// Verdict: old envelopes deduplicated, lost ones shown as a gap and sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_restored_in_silence_loses_and_repeats_nothing() -> anyhow::Result<()> {
    let mut world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    alice.says("before").to(&bob).await?;
    bob.hears("before").await?;
    bob.client.shutdown().await;
    // The snapshot holds an envelope that Bob gets afterwards.
    alice.says("in the snapshot").to(&bob).await?;
    let snapshot = world.clinic.relay.snapshot()?;
    let bob = world.again("bob").await?;
    bob.hears("in the snapshot").await?;
    bob.client.sync(PATIENCE).await?;
    bob.client.shutdown().await;
    // The relay says "accepted", and then forgets it.
    alice.says("accepted and then forgotten").to(&bob).await?;
    world.clinic.relay.restore(&snapshot)?;
    let bob = world.again("bob").await?;
    alice.says("after").to(&bob).await?;
    bob.hears("after").await?;
    bob.is_told(NoticeKind::Gap, alice.account()).await?;
    bob.hears("accepted and then forgotten").await?;
    bob.hears("in the snapshot").await?;
    bob.says("I have them all").to(&alice).await?;
    alice.hears("I have them all").await?;
    assert!(!bob.was_told(NoticeKind::Quarantined).await?);
    world.clinic.check_no_panic()
}

// Verdict: as above; and as told to the relay, devices bring new prekeys.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_restored_as_the_manual_says_gets_new_prekeys() -> anyhow::Result<()> {
    let mut world = World::open().await?;
    let alice = world.staff("alice").await?;
    let bob = world.patient("bob", &alice).await?;
    let snapshot = world.clinic.relay.snapshot()?;
    alice.says("one").to(&bob).await?;
    bob.hears("one").await?;
    world.clinic.relay.restore_and(&snapshot, |config| {
        succeed(
            std::process::Command::new(wardline_e2e::process::binary("wardline-relay")?)
                .arg("raise-epoch")
                .arg("--config")
                .arg(config),
        )
        .map(drop)
    })?;
    alice.client.sync(PATIENCE).await?;
    bob.client.sync(PATIENCE).await?;
    alice.says("two").to(&bob).await?;
    bob.hears("two").await?;
    // Somebody new reaches both: their prekeys are there again.
    let carol = world.patient("carol", &alice).await?;
    carol.says("hello").to(&alice).await?;
    alice.hears("hello").await?;
    world.clinic.check_no_panic()
}

// Verdict: refused. A device list from the restored past is no list.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_list_from_a_restored_past_is_refused() -> anyhow::Result<()> {
    let mut world = World::open().await?;
    let alice = world.staff("alice").await?;
    let mut carol = world.clinic.spare_called("carol").await?;
    let stolen = carol.add_device().await?;
    let snapshot = world.clinic.relay.snapshot()?;
    carol.remove_device(stolen.device.into()).await?;
    assert_eq!(alice.looks_up("carol").await?.devices.len(), 1);
    world.clinic.relay.restore(&snapshot)?;
    alice.client.sync(PATIENCE).await?;
    // Refused or answered from what is known: the stolen device never comes back.
    let _ = alice.looks_up("carol").await;
    alice.is_told(NoticeKind::ListRolledBack, carol.id).await?;
    assert_eq!(alice.contact(carol.id).await?.devices.len(), 1);
    world.clinic.check_no_panic()
}
