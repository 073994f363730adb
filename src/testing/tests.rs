use super::*;

#[test]
fn a_sample_with_an_id_differs_from_the_sample_in_nothing_else() {
    for event_type in EventType::KNOWN {
        let (id, _) = event_type.sample_data();
        let body = sample_with(event_type, "a\"b/..");
        assert_eq!(
            body.replace(r#""a\"b/..""#, &format!("{id:?}")),
            sample(event_type)
        );
        let event: crate::Event = serde_json::from_str(&body).unwrap();
        assert_eq!(event.data.id(), Some("a\"b/.."), "{body}");
    }
}

#[test]
fn a_minimal_sample_is_an_event_of_its_type_without_optional_members() {
    for event_type in EventType::KNOWN {
        let body = minimal_sample(event_type);
        let event: crate::Event = serde_json::from_str(&body).unwrap();
        assert_eq!(event.event_type(), *event_type);
        assert!(
            event.occurred_at.is_none() && event.version.is_none() && event.other.is_empty(),
            "{body}"
        );
        let members: serde_json::Map<String, Value> = serde_json::from_str(&body).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(members["data"].as_object().unwrap().len(), 1);
    }
}

#[cfg(feature = "receiver")]
mod failing_store {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use super::*;
    use crate::store::{ClaimOutcome, IdempotencyStore, MemoryStore};

    /// The memory never waits.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it waits"),
        }
    }

    const LEASE: Duration = Duration::from_secs(60);

    #[test]
    fn each_operation_fails_as_often_as_it_was_told_to() {
        let store = FailingStore::new(MemoryStore::default());
        let operator = store.clone();
        operator.fail_claims(2);
        assert!(now(store.claim("a", LEASE)).is_err());
        assert!(now(store.claim("a", LEASE)).is_err());
        let Ok(ClaimOutcome::New(claim)) = now(store.claim("a", LEASE)) else {
            panic!("a failing claim reached the store");
        };
        operator.fail_completes(1);
        assert!(now(store.complete(&claim, LEASE)).is_err());
        operator.fail_releases(1);
        assert!(now(store.release(&claim)).is_err());
        let outcome = now(store.claim("a", LEASE)).unwrap();
        assert!(
            matches!(outcome, ClaimOutcome::InFlight { .. }),
            "{outcome:?}"
        );
        assert!(now(store.complete(&claim, LEASE)).unwrap());
        now(store.release(&claim)).unwrap();
        assert_eq!(now(store.claim("a", LEASE)).unwrap(), ClaimOutcome::Done);
    }

    #[test]
    fn all_fail_until_they_are_told_not_to() {
        let store = FailingStore::new(MemoryStore::default());
        store.fail_claims(usize::MAX);
        for _ in 0..10 {
            assert!(now(store.claim("a", LEASE)).is_err());
        }
        store.fail_claims(0);
        assert!(now(store.claim("a", LEASE)).is_ok());
    }
}
