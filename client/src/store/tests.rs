//! What every table promises, on the real, encrypted database.

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use wardline_wire::clock::Timestamp;
use wardline_wire::ids::{AccountId, DeviceAddress, DeviceId, SendId};

use super::prekeys::Kind;
use super::*;
use crate::profile::StoreKey;

async fn fresh() -> (tempfile::TempDir, SqliteConnection) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("store.db"), &StoreKey::for_tests(), true)
        .await
        .unwrap();
    (dir, db)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn ann() -> DeviceAddress {
    DeviceAddress {
        account: AccountId::from_random_bytes([1; 16]),
        device: DeviceId::FIRST,
    }
}

#[tokio::test]
async fn the_file_is_unreadable_without_its_key_and_reopens_with_it() {
    let (dir, mut db) = fresh().await;
    let path = dir.path().join("store.db");
    sessions::save(&mut db, ann(), b"identity", b"canary-in-the-store")
        .await
        .unwrap();
    db.close().await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let canary = b"canary-in-the-store";
        assert!(!bytes.windows(canary.len()).any(|window| window == canary));
        assert!(!bytes.starts_with(b"SQLite format 3"));
    }
    let mut db = open(&path, &StoreKey::for_tests(), false).await.unwrap();
    let stored = sessions::load(&mut db, ann()).await.unwrap().unwrap();
    assert_eq!(stored.record, b"canary-in-the-store");
    db.close().await.unwrap();
    assert!(matches!(
        open(&path, &StoreKey::other_for_tests(), false).await,
        Err(StoreError::Unreadable)
    ));
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let (dir, mut db) = fresh().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'later', 1, x'00', 0)",
    )
    .execute(&mut db)
    .await
    .unwrap();
    db.close().await.unwrap();
    let path = dir.path().join("store.db");
    assert!(matches!(
        open(&path, &StoreKey::for_tests(), false).await,
        Err(StoreError::Newer)
    ));
}

#[tokio::test]
async fn prekey_ids_go_on_and_wrap_without_zero() {
    let (_dir, mut db) = fresh().await;
    let last = 0x00FF_FFFF;
    let first = prekeys::reserve_ids(&mut db, Kind::OneTime, 3, last - 1)
        .await
        .unwrap();
    let ids: Vec<u32> = (0..3).map(|offset| prekeys::after(first, offset)).collect();
    assert_eq!(ids, [last - 1, last, 1]);
    let next = prekeys::reserve_ids(&mut db, Kind::OneTime, 1, 7)
        .await
        .unwrap();
    assert_eq!(next, 2);
    // Both Kyber kinds draw from one counter.
    let one = prekeys::reserve_ids(&mut db, Kind::OneTimeKyber, 1, 10)
        .await
        .unwrap();
    let two = prekeys::reserve_ids(&mut db, Kind::LastResortKyber, 1, 10)
        .await
        .unwrap();
    assert_eq!((one, two), (10, 11));
}

#[tokio::test]
async fn a_base_key_counts_once_for_as_long_as_its_prekey_lives() {
    let (_dir, mut db) = fresh().await;
    let kind = Kind::LastResortKyber;
    prekeys::insert(&mut db, kind, 1, b"record", at(1))
        .await
        .unwrap();
    assert!(
        prekeys::use_base_key(&mut db, 1, 5, &[1; 32])
            .await
            .unwrap()
    );
    assert!(
        !prekeys::use_base_key(&mut db, 1, 5, &[1; 32])
            .await
            .unwrap()
    );
    assert!(
        prekeys::use_base_key(&mut db, 1, 6, &[1; 32])
            .await
            .unwrap()
    );
    prekeys::insert(&mut db, kind, 2, b"record", at(2))
        .await
        .unwrap();
    prekeys::replace_older(&mut db, kind, 2, at(100))
        .await
        .unwrap();
    prekeys::forget_replaced(&mut db, at(100)).await.unwrap();
    assert_eq!(prekeys::count(&mut db, kind).await.unwrap(), 2);
    assert!(
        !prekeys::use_base_key(&mut db, 1, 5, &[1; 32])
            .await
            .unwrap()
    );
    prekeys::forget_replaced(&mut db, at(101)).await.unwrap();
    assert_eq!(prekeys::count(&mut db, kind).await.unwrap(), 1);
    assert!(prekeys::load(&mut db, kind, 1).await.unwrap().is_none());
}

#[tokio::test]
async fn a_delivery_never_goes_back() {
    let (_dir, mut db) = fresh().await;
    let (id, account) = ([3; 16], ann().account);
    for (said, shown) in [
        ("sending", "sending"),
        ("accepted", "accepted"),
        ("delivered", "delivered"),
        ("accepted", "delivered"),
        ("read", "read"),
        ("delivered", "read"),
    ] {
        outbox::set_delivery(&mut db, &id, account, said, at(1))
            .await
            .unwrap();
        let state = outbox::deliveries(&mut db, &id).await.unwrap();
        assert_eq!(state[0].1, shown, "after {said}");
    }
}

#[tokio::test]
async fn sends_go_out_in_order_and_not_before_their_time() {
    let (_dir, mut db) = fresh().await;
    let account = ann().account;
    for (number, not_before) in [(1u8, 0), (2, 50), (3, 0)] {
        let id = [number; 16];
        outbox::insert_sent(&mut db, &id, b"", 0, b"content", false, at(1))
            .await
            .unwrap();
        let row = outbox::enqueue(&mut db, &id, account, 0).await.unwrap();
        outbox::make_ready(&mut db, row, SendId::from(id), b"bytes")
            .await
            .unwrap();
        if not_before > 0 {
            outbox::put_off(&mut db, row, at(not_before), None)
                .await
                .unwrap();
        }
    }
    let due = outbox::due_sends(&mut db, at(10), 9).await.unwrap();
    assert_eq!(due, [SendId::from([1; 16]), SendId::from([3; 16])]);
    let due = outbox::due_sends(&mut db, at(50), 9).await.unwrap();
    assert_eq!(due.len(), 3);
}

#[tokio::test]
async fn local_ids_are_never_used_again() {
    let (_dir, mut db) = fresh().await;
    let message = |number: u8| messages::New {
        conversation: b"c",
        content_id: Box::leak(Box::new([number; 16])),
        sender: ann(),
        own: false,
        content: b"content",
        kind: "text",
        sent_at: at(1),
        disappears_at: Some(at(5)),
    };
    let first = messages::insert(&mut db, &message(1), at(1)).await.unwrap();
    assert_eq!(first, Some(1));
    assert_eq!(
        messages::insert(&mut db, &message(1), at(1)).await.unwrap(),
        None
    );
    assert_eq!(
        messages::delete_disappeared(&mut db, at(5)).await.unwrap(),
        [1]
    );
    let second = messages::insert(&mut db, &message(2), at(6)).await.unwrap();
    assert!(second > first);
}

#[tokio::test]
async fn a_throttle_opens_again_after_its_window_even_if_the_clock_went_back() {
    let (_dir, mut db) = fresh().await;
    for (now, expected) in [
        (100, true),
        (110, true),
        (120, false),
        (1_101, true),
        (50, true),
    ] {
        let open = inbox::throttle(&mut db, "t", b"k", 2, 1_000, at(now))
            .await
            .unwrap();
        assert_eq!(open, expected, "at {now}");
    }
}

#[tokio::test]
async fn a_job_is_finished_once() {
    let (_dir, mut db) = fresh().await;
    misc::add_job(&mut db, 7, b"c", at(1)).await.unwrap();
    let (job, local_id) = misc::next_job(&mut db, 0).await.unwrap().unwrap();
    assert_eq!(local_id, 7);
    assert!(misc::finish_job(&mut db, job).await.unwrap());
    assert!(!misc::finish_job(&mut db, job).await.unwrap());
    assert!(misc::next_job(&mut db, 0).await.unwrap().is_none());
}
