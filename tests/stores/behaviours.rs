//! What every store does.

use std::{sync::Arc, time::Duration};

use gemini_webhooks::{
    store::{Claim, ClaimOutcome, IdempotencyStore, MemoryStore, SqliteStore},
    testing::Clock,
};
use time::OffsetDateTime;

use crate::fixture::{Fixture, Place, chain};

const LEASE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than a store keeps a claim that was not completed.
const RETENTION: Duration = Duration::from_secs(2 * 24 * 60 * 60);

async fn claim(store: &dyn IdempotencyStore, key: &str) -> Claim {
    match store.claim(key, LEASE).await.unwrap() {
        ClaimOutcome::New(claim) => claim,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn a_key_is_claimed_completed_and_remembered() {
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        let (key, other) = (fixture.key("a"), fixture.key("b"));
        let first = claim(store, &key).await;
        assert_eq!(first.key(), key);
        match store.claim(&key, LEASE).await.unwrap() {
            ClaimOutcome::InFlight { remaining } => {
                assert!(
                    remaining <= LEASE && remaining > LEASE / 2,
                    "{name}: {remaining:?}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(claim(store, &other).await.key(), other, "{name}");
        assert!(store.complete(&first, RETENTION).await.unwrap(), "{name}");
        assert!(
            store.complete(&first, RETENTION).await.unwrap(),
            "{name}: again"
        );
        store.release(&first).await.unwrap();
        assert_eq!(
            store.claim(&key, LEASE).await.unwrap(),
            ClaimOutcome::Done,
            "{name}"
        );
        fixture.advance(RETENTION - LEASE).await;
        assert_eq!(
            store.claim(&key, LEASE).await.unwrap(),
            ClaimOutcome::Done,
            "{name}"
        );
        fixture.advance(2 * LEASE).await;
        let later = claim(store, &key).await;
        assert!(later.fencing_token() > first.fencing_token(), "{name}");
    }
}

#[tokio::test]
async fn a_released_key_is_new_at_once() {
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        let key = fixture.key("a");
        let first = claim(store, &key).await;
        store.release(&first).await.unwrap();
        let second = claim(store, &key).await;
        assert!(second.fencing_token() > first.fencing_token(), "{name}");
        store.release(&first).await.unwrap();
        let third = store.claim(&key, LEASE).await.unwrap();
        assert!(
            matches!(third, ClaimOutcome::InFlight { .. }),
            "{name}: {third:?}"
        );
    }
}

#[tokio::test]
async fn who_outlives_the_lease_can_not_complete_what_another_has_claimed() {
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        let key = fixture.key("a");
        let slow = claim(store, &key).await;
        fixture.advance(LEASE).await;
        let second = claim(store, &key).await;
        assert!(second.fencing_token() > slow.fencing_token(), "{name}");
        assert!(!store.complete(&slow, DAY).await.unwrap(), "{name}");
        store.release(&slow).await.unwrap();
        assert!(store.complete(&second, DAY).await.unwrap(), "{name}");
        assert!(!store.complete(&slow, DAY).await.unwrap(), "{name}");
        assert_eq!(
            store.claim(&key, LEASE).await.unwrap(),
            ClaimOutcome::Done,
            "{name}"
        );

        let key = fixture.key("b");
        let slow = claim(store, &key).await;
        fixture.advance(2 * LEASE).await;
        assert!(
            store.complete(&slow, DAY).await.unwrap(),
            "{name}: nobody else has it"
        );
        assert_eq!(
            store.claim(&key, LEASE).await.unwrap(),
            ClaimOutcome::Done,
            "{name}"
        );
    }
}

#[tokio::test]
async fn fencing_tokens_of_a_key_grow_even_if_the_clock_steps_back() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        let key = fixture.key("a");
        let mut last = 0;
        let mut grows = |claim: &Claim, by: i64| {
            let token = claim.fencing_token();
            assert!(token > last + by, "{name}: {token} after {last} + {by}");
            last = token;
        };
        // Within a microsecond, as far as the clocks of the tests are concerned.
        for _ in 0..3 {
            let released = claim(store, &key).await;
            grows(&released, 0);
            store.release(&released).await.unwrap();
        }
        for _ in 0..2 {
            let by = fixture.step_back(HOUR).await;
            let released = claim(store, &key).await;
            grows(&released, by);
            store.release(&released).await.unwrap();
            grows(&claim(store, &key).await, 0);
            fixture.advance(LEASE).await;
            let after_expiry = claim(store, &key).await;
            grows(&after_expiry, 0);
            store.release(&after_expiry).await.unwrap();
        }
        let completed = claim(store, &key).await;
        grows(&completed, 0);
        assert!(store.complete(&completed, RETENTION).await.unwrap());
        fixture.step_back(HOUR).await;
        let outcome = store.claim(&key, LEASE).await.unwrap();
        assert_eq!(outcome, ClaimOutcome::Done, "{name}");
    }
}

#[tokio::test]
async fn a_released_key_is_new_at_once_whatever_the_clock_does() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        let key = fixture.key("a");
        store.release(&claim(store, &key).await).await.unwrap();
        fixture.step_back(HOUR).await;
        let outcome = store.claim(&key, LEASE).await.unwrap();
        assert!(
            matches!(outcome, ClaimOutcome::New(_)),
            "{name}: {outcome:?}"
        );
    }
}

/// A slow handler may be the last that handles, if those after it fail.
#[tokio::test]
async fn a_claim_completes_after_another_was_released_or_outlived() {
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        for other_ends_by in ["release", "expiry"] {
            let key = fixture.key(other_ends_by);
            let shown = format!("{name}, {other_ends_by}");
            let slow = claim(store, &key).await;
            fixture.advance(LEASE).await;
            let other = claim(store, &key).await;
            assert!(!store.complete(&slow, RETENTION).await.unwrap(), "{shown}");
            match other_ends_by {
                "release" => store.release(&other).await.unwrap(),
                _ => fixture.advance(LEASE).await,
            }
            for _ in 0..2 {
                assert!(store.complete(&slow, RETENTION).await.unwrap(), "{shown}");
                assert!(!store.complete(&other, RETENTION).await.unwrap(), "{shown}");
                store.release(&other).await.unwrap();
                let outcome = store.claim(&key, LEASE).await.unwrap();
                assert_eq!(outcome, ClaimOutcome::Done, "{shown}");
            }
        }
        // One that gave its own claim up, and one whose key is forgotten.
        let (released, forgotten) = (fixture.key("released"), fixture.key("forgotten"));
        let claims = [
            claim(store, &released).await,
            claim(store, &forgotten).await,
        ];
        store.release(&claims[0]).await.unwrap();
        assert!(store.complete(&claims[0], RETENTION).await.unwrap());
        fixture.advance(RETENTION / 2 + 2 * LEASE).await;
        drop(claim(store, &fixture.key("new")).await);
        assert!(store.complete(&claims[1], RETENTION).await.unwrap());
        for key in [&released, &forgotten] {
            let outcome = store.claim(key, LEASE).await.unwrap();
            assert_eq!(outcome, ClaimOutcome::Done, "{name}: {key}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_completed_again_is_remembered_for_the_longer_time() {
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        for (number, times) in [[RETENTION, LEASE], [LEASE, RETENTION]].iter().enumerate() {
            let key = fixture.key(&number.to_string());
            let claimed = claim(store, &key).await;
            for time in times {
                let ours = store.complete(&claimed, *time).await.unwrap();
                assert!(ours, "{name}: {time:?}");
            }
            fixture.advance(RETENTION - LEASE).await;
            let outcome = store.claim(&key, LEASE).await.unwrap();
            assert_eq!(outcome, ClaimOutcome::Done, "{name}: {times:?}");
            fixture.advance(2 * LEASE).await;
            drop(claim(store, &key).await);
        }
    }
}

#[tokio::test]
async fn the_longest_times_can_be_represented() {
    const NINE_YEARS: Duration = Duration::from_secs(9 * 365 * 24 * 60 * 60);
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        let [held, done] = ["held", "done"].map(|id| fixture.key(id));
        for key in [&held, &done] {
            let outcome = store.claim(key, Duration::MAX).await.unwrap();
            let ClaimOutcome::New(claimed) = outcome else {
                panic!("{name}: {outcome:?}");
            };
            if *key == done {
                for _ in 0..2 {
                    let ours = store.complete(&claimed, Duration::MAX).await.unwrap();
                    assert!(ours, "{name}");
                }
            }
        }
        for time in [NINE_YEARS, Duration::ZERO] {
            match store.claim(&held, Duration::MAX).await.unwrap() {
                ClaimOutcome::InFlight { remaining } => {
                    assert!(remaining > DAY, "{name}: {remaining:?}");
                    assert!(remaining < 2 * NINE_YEARS, "{name}: {remaining:?}");
                }
                other => panic!("{name}: {other:?}"),
            }
            let outcome = store.claim(&done, Duration::MAX).await.unwrap();
            assert_eq!(outcome, ClaimOutcome::Done, "{name}");
            fixture.advance(time).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_claim_a_key_at_once_one_gets_it() {
    for fixture in Fixture::all().await {
        let keys: Vec<_> = (0..100).map(|n| fixture.key(&n.to_string())).collect();
        let mut tasks = Vec::new();
        for _ in 0..64 {
            let (store, keys) = (Arc::clone(&fixture.store), keys.clone());
            tasks.push(tokio::spawn(async move {
                let mut claimed = Vec::new();
                for (number, key) in keys.iter().enumerate() {
                    if let ClaimOutcome::New(claim) = store.claim(key, LEASE).await.unwrap() {
                        assert!(store.complete(&claim, DAY).await.unwrap());
                        claimed.push(number);
                    }
                }
                claimed
            }));
        }
        let mut claimed = Vec::new();
        for task in tasks {
            claimed.extend(task.await.unwrap());
        }
        claimed.sort_unstable();
        assert_eq!(claimed, (0..100).collect::<Vec<_>>(), "{}", fixture.name);
    }
}

#[tokio::test]
async fn keys_that_need_no_longer_be_remembered_go() {
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        for number in 0..20 {
            let claim = claim(store, &fixture.key(&format!("old{number}"))).await;
            assert!(store.complete(&claim, RETENTION).await.unwrap());
        }
        fixture.advance(RETENTION).await;
        for number in 0..20 {
            drop(claim(store, &fixture.key(&format!("new{number}"))).await);
        }
        if let Some(count) = fixture.count().await {
            assert_eq!(count, 20, "{name}");
        }
    }
}

#[tokio::test]
async fn a_full_memory_takes_nothing_new_and_forgets_nothing() {
    let clock = Clock::manual(OffsetDateTime::now_utc());
    let store = MemoryStore::with_capacity(10).clock(clock.clone());
    for number in 0..10 {
        let claim = claim(&store, &format!("old{number}")).await;
        assert!(store.complete(&claim, DAY).await.unwrap());
    }
    let refused = chain(&store.claim("new", LEASE).await.unwrap_err());
    assert!(
        refused.contains("its 10 keys are all still to be remembered"),
        "{refused}"
    );
    for number in 0..10 {
        let outcome = store.claim(&format!("old{number}"), LEASE).await.unwrap();
        assert_eq!(outcome, ClaimOutcome::Done);
    }
    clock.advance(DAY);
    let claim = claim(&store, "new").await;
    assert!(store.complete(&claim, DAY).await.unwrap());
}

#[tokio::test]
async fn odd_keys_and_times_do_no_harm() {
    for fixture in Fixture::all().await {
        let (store, name) = (&*fixture.store, fixture.name);
        for key in ["'; DROP TABLE x; --", "*?[a]", "\\", &"x".repeat(400)] {
            let key = fixture.key(key);
            let claim = claim(store, &key).await;
            assert!(
                store.complete(&claim, 400 * DAY).await.unwrap(),
                "{name} {key}"
            );
            let again = store.claim(&key, LEASE).await.unwrap();
            assert_eq!(again, ClaimOutcome::Done, "{name} {key}");
        }
    }
}

#[tokio::test]
async fn what_is_on_disk_is_there_for_the_next_process() {
    let fixture = Fixture::sqlite();
    let Place::Sqlite(file) = &fixture.place else {
        unreachable!()
    };
    let (done, open) = (fixture.key("done"), fixture.key("open"));
    let claimed = claim(&*fixture.store, &done).await;
    assert!(fixture.store.complete(&claimed, DAY).await.unwrap());
    let claimed = claim(&*fixture.store, &open).await;
    let next = SqliteStore::open(&file.0).unwrap();
    assert_eq!(next.claim(&done, LEASE).await.unwrap(), ClaimOutcome::Done);
    assert!(next.complete(&claimed, DAY).await.unwrap());
}
