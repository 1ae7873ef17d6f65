//! Two people, three people, a second device.

use wardline_client::api::{DeliveryState, DeviceId, MessageBody};
use wardline_e2e::process::{PATIENCE, eventually};
use wardline_e2e::world::{Person, World};

/// Waits until a device shows a text that another device of the same account sent.
async fn until_sent(person: &Person, text: &str) -> anyhow::Result<()> {
    eventually(&format!("{} to show {text:?}", person.name), || async {
        let messages = person.messages().await?;
        let found = messages.iter().any(|message| {
            message.own && matches!(&message.body, MessageBody::Text(said) if said.body == text)
        });
        Ok(found.then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_and_a_clinician_talk() -> anyhow::Result<()> {
    let world = World::open().await?;
    let nurse = world.staff("nurse").await?;
    let patient = world.patient("patient", &nurse).await?;
    patient.says("good morning").to(&nurse).await?;
    nurse.hears("good morning").await?;
    let id = nurse.says("how are you?").to(&patient).await?;
    patient.hears("how are you?").await?;
    let status = nurse.client.wait_delivered(id, PATIENCE).await?;
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].state, DeliveryState::Delivered);
    let ours = nurse.client.safety_number(patient.account()).await?;
    assert_eq!(ours, patient.client.safety_number(nurse.account()).await?);
    nurse.client.shutdown().await;
    patient.client.shutdown().await;
    world.clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_people_talk_in_a_group() -> anyhow::Result<()> {
    let world = World::open().await?;
    let nurse = world.staff("nurse").await?;
    let patient = world.patient("patient", &nurse).await?;
    let child = world.patient("child", &nurse).await?;
    let group = nurse
        .client
        .create_conversation(
            Some("Family".to_owned()),
            vec![patient.account(), child.account()],
        )
        .await?;
    nurse.says("welcome").within(group).await?;
    patient.hears("welcome").await?;
    child.hears("welcome").await?;
    patient.says("thank you").within(group).await?;
    child.hears("thank you").await?;
    nurse.hears("thank you").await?;
    assert_eq!(child.client.conversation(group).await?.title, "Family");
    // Patients have no name in the directory: they told each other.
    eventually("the child to know the patient's name", || async {
        let name = child.client.display_name(patient.account()).await?;
        Ok((name == "patient").then_some(()))
    })
    .await?;
    nurse.client.remove_member(group, child.account()).await?;
    nurse.says("just us now").within(group).await?;
    patient.hears("just us now").await?;
    child.client.sync(PATIENCE).await?;
    assert!(!child.heard().await?.contains(&"just us now".to_owned()));
    assert!(child.hands_in("still here?", group).await.is_err());
    world.clinic.check_no_panic()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_device_joins_and_is_revoked() -> anyhow::Result<()> {
    let world = World::open().await?;
    let nurse = world.staff("nurse").await?;
    let patient = world.patient("patient", &nurse).await?;
    patient.says("before").to(&nurse).await?;
    nurse.hears("before").await?;
    let tablet = world.link_device("tablet", &nurse).await?;
    tablet.until_knows(patient.account()).await?;
    patient.says("to both").to(&nurse).await?;
    nurse.hears("to both").await?;
    tablet.hears("to both").await?;
    nurse.says("from the first").to(&patient).await?;
    until_sent(&tablet, "from the first").await?;
    tablet.says("from the second").to(&patient).await?;
    patient.hears("from the second").await?;
    until_sent(&nurse, "from the second").await?;
    nurse.client.revoke_device(DeviceId::new(2)?).await?;
    patient.says("to the first alone").to(&nurse).await?;
    nurse.hears("to the first alone").await?;
    assert!(
        !tablet
            .heard()
            .await?
            .contains(&"to the first alone".to_owned())
    );
    world.clinic.check_no_panic()
}
