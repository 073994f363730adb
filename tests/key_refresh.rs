//! Keys that are refreshed while somebody attacks, on virtual time.
#![cfg(feature = "_per-request")]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use gemini_webhooks::{
    Error, PerRequest, Verifier,
    keys::{FetchError, Freshness, RefreshedKeys},
    testing::{Clock, SignedDelivery, Signer, SigningKeys, sample},
};
use time::OffsetDateTime;

const SECOND: Duration = Duration::from_secs(1);

/// A key server, and the time that it and everybody else lives in.
#[derive(Clone)]
struct World {
    clock: Clock,
    server: Arc<Server>,
}

#[derive(Default)]
struct Server {
    keys: Mutex<String>,
    delay: Mutex<Duration>,
    down: AtomicBool,
    fetches: AtomicU32,
    sleepers: Mutex<Vec<Waker>>,
}

impl World {
    fn new(keys: &SigningKeys) -> Self {
        let now = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        let world = Self {
            clock: Clock::manual(now),
            server: Arc::default(),
        };
        world.serve(keys);
        world
    }

    fn serve(&self, keys: &SigningKeys) {
        *self.server.keys.lock().unwrap() = keys.jwks();
    }

    fn delay(&self, delay: Duration) {
        *self.server.delay.lock().unwrap() = delay;
    }

    fn fetches(&self) -> u32 {
        self.server.fetches.load(Ordering::SeqCst)
    }

    /// One key set, and a verifier of it.
    fn keys(&self) -> (Arc<RefreshedKeys>, Verifier) {
        let world = self.clone();
        let keys = RefreshedKeys::new(move || world.clone().fetch()).clock(self.clock.clone());
        let keys = Arc::new(keys);
        let verifier = Verifier::builder()
            .per_request(PerRequest::any_sender(Arc::clone(&keys)))
            .clock(self.clock.clone())
            .build()
            .unwrap();
        (keys, verifier)
    }

    /// The same, after the first fetch.
    async fn fetched(&self) -> (Arc<RefreshedKeys>, Verifier) {
        let (keys, verifier) = self.keys();
        assert!(keys.refresh().await.unwrap());
        (keys, verifier)
    }

    async fn fetch(self) -> Result<Vec<u8>, FetchError> {
        self.server.fetches.fetch_add(1, Ordering::SeqCst);
        let until = self.clock.now() + *self.server.delay.lock().unwrap();
        poll_fn(|context| {
            if self.clock.now() >= until {
                return Poll::Ready(());
            }
            let mut sleepers = self.server.sleepers.lock().unwrap();
            sleepers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
        if self.server.down.load(Ordering::SeqCst) {
            return Err("the server is down".into());
        }
        Ok(self.server.keys.lock().unwrap().clone().into_bytes())
    }

    /// Lets time pass, and all tasks see it.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        let sleepers = std::mem::take(&mut *self.server.sleepers.lock().unwrap());
        sleepers.into_iter().for_each(Waker::wake);
        settle().await;
    }

    fn sign(&self, keys: &SigningKeys) -> SignedDelivery {
        let body = sample(&"batch.succeeded".into());
        Signer::v1a(keys).sign("msg_1", self.clock.now(), body)
    }

    /// Costs no work with public keys, and is refused like any other forgery.
    fn forge(&self) -> SignedDelivery {
        let mut forged = self.sign(&SigningKeys::generate());
        forged.signature = format!("v1a,{}==", "A".repeat(86));
        forged
    }
}

async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// Polls once, and hangs up.
fn hang_up<T>(request: impl Future<Output = T>) {
    let request = pin!(request);
    let _ = request.poll(&mut Context::from_waker(Waker::noop()));
}

async fn verify(verifier: &Verifier, sent: &SignedDelivery) -> Result<(), &'static str> {
    let outcome = verifier.verify_refreshing(sent, &sent.body).await;
    outcome.map(drop).map_err(|error| error.code())
}

fn run(keys: &Arc<RefreshedKeys>) -> tokio::task::JoinHandle<()> {
    let keys = Arc::clone(keys);
    tokio::spawn(async move { keys.run(drop).await })
}

/// For a simulated day: forged requests that hang up at once, a rotation every two hours, and an honest
/// delivery under the new key every ten seconds.
async fn a_day_of_forgeries(every: Duration, delay: Duration) {
    let mut google = SigningKeys::generate();
    let world = World::new(&google);
    world.delay(delay);
    let (keys, verifier) = world.keys();
    let task = run(&keys);
    world.pass(delay).await;
    world.pass(delay).await;
    assert_eq!(keys.freshness(), Freshness::Fresh);

    let mut forged = world.forge();
    let (mut now, mut next_forgery, mut next_honest) = (Duration::ZERO, every, Duration::ZERO);
    let (mut rotated, mut accepted, mut slowest) = (Duration::ZERO, true, Duration::ZERO);
    let mut waiting = None;
    while now < Duration::from_secs(86_400) {
        if now.as_millis() % 7_200_000 == 0 {
            google = SigningKeys::generate();
            world.serve(&google);
            (rotated, accepted) = (now, false);
        }
        if now >= next_forgery {
            forged.timestamp = world.clock.now().unix_timestamp().to_string();
            hang_up(verifier.verify_refreshing(&forged, &forged.body));
            next_forgery += every;
        }
        if now >= next_honest && !accepted {
            let (sent, verifier) = (world.sign(&google), verifier.clone());
            waiting = Some(tokio::spawn(async move { verify(&verifier, &sent).await }));
            next_honest = now + 10 * SECOND;
        }
        let step = if accepted {
            every.min(SECOND)
        } else {
            every.min(SECOND / 4)
        };
        world.pass(step).await;
        now += step;
        if waiting
            .as_ref()
            .is_some_and(tokio::task::JoinHandle::is_finished)
            && waiting.take().unwrap().await.unwrap().is_ok()
        {
            accepted = true;
            slowest = slowest.max(now.saturating_sub(rotated));
        }
        assert!(
            accepted || now.saturating_sub(rotated) <= 60 * SECOND,
            "at {now:?}"
        );
        assert_eq!(keys.freshness(), Freshness::Fresh, "at {now:?}");
    }
    // One in 30 s at most, and the periodic ones.
    let fetches = world.fetches();
    assert!(
        fetches <= 86_400 / 30 + 86_400 / 600 + 10,
        "{fetches} fetches"
    );
    assert!(slowest <= 60 * SECOND, "{slowest:?}");
    task.abort();
}

#[tokio::test]
async fn one_forgery_that_hangs_up_in_30_seconds_does_not_block_a_rotation() {
    a_day_of_forgeries(30 * SECOND, Duration::from_millis(300)).await;
}

#[tokio::test]
async fn four_forgeries_that_hang_up_a_second_do_not_block_a_rotation() {
    a_day_of_forgeries(Duration::from_millis(250), Duration::from_millis(300)).await;
}

/// Nobody carries a fetch on but those who wait for it.
#[tokio::test]
async fn a_fetch_survives_the_request_that_caused_it() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let world = World::new(&old);
    let (_, verifier) = world.fetched().await;
    world.serve(&new);
    world.delay(Duration::from_millis(300));
    world.pass(31 * SECOND).await;

    let forged = world.forge();
    hang_up(verifier.verify_refreshing(&forged, &forged.body));
    assert_eq!(world.fetches(), 2);
    world.pass(Duration::from_millis(100)).await;
    let sent = world.sign(&new);
    let honest = tokio::spawn(async move { verify(&verifier, &sent).await });
    settle().await;
    world.pass(Duration::from_millis(200)).await;
    assert_eq!(honest.await.unwrap(), Ok(()));
    assert_eq!(world.fetches(), 2, "the honest one joined it");
}

#[tokio::test]
async fn a_fetch_that_nobody_carries_on_is_no_failure() {
    let google = SigningKeys::generate();
    let world = World::new(&google);
    let (keys, verifier) = world.fetched().await;
    world.delay(Duration::from_millis(300));
    world.pass(31 * SECOND).await;
    let forged = world.forge();
    hang_up(verifier.verify_refreshing(&forged, &forged.body));
    // The periodic refresh comes when it is due, without a back-off, and fetches.
    world.pass(569 * SECOND).await;
    assert_eq!(keys.time_to_next(), Duration::ZERO);
    let refresh = {
        let keys = Arc::clone(&keys);
        tokio::spawn(async move { keys.refresh().await })
    };
    settle().await;
    world.pass(Duration::from_millis(300)).await;
    assert!(refresh.await.unwrap().unwrap());
    assert_eq!(world.fetches(), 3);
}

#[tokio::test]
async fn deliveries_wait_for_a_fetch_and_are_verified_again() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let world = World::new(&old);
    let (_, verifier) = world.fetched().await;
    world.serve(&new);
    world.delay(Duration::from_millis(300));
    world.pass(31 * SECOND).await;
    let mut requests = Vec::new();
    for _ in 0..64 {
        let (sent, verifier) = (world.sign(&new), verifier.clone());
        requests.push(tokio::spawn(async move { verify(&verifier, &sent).await }));
        world.pass(Duration::from_millis(4)).await;
    }
    world.pass(Duration::from_millis(100)).await;
    for request in requests {
        assert_eq!(request.await.unwrap(), Ok(()));
    }
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn among_a_thousand_forgeries_no_genuine_delivery_is_refused_for_good() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let world = World::new(&old);
    let (_, verifier) = world.fetched().await;
    world.serve(&new);
    world.delay(Duration::from_millis(300));
    world.pass(31 * SECOND).await;
    let mut requests = Vec::new();
    for number in 0..1064 {
        let genuine = number % 16 == 7;
        let sent = if genuine {
            world.sign(&new)
        } else {
            world.forge()
        };
        let verifier = verifier.clone();
        let request = tokio::spawn(async move { verify(&verifier, &sent).await });
        requests.push((genuine, request));
    }
    // Until all of them wait, or have been told to come again.
    for _ in 0..1000 {
        settle().await;
    }
    world.pass(Duration::from_millis(300)).await;
    let mut accepted = 0;
    for (genuine, request) in requests {
        match (genuine, request.await.unwrap()) {
            (true, Ok(())) => accepted += 1,
            (_, Err("keys_unavailable")) | (false, Err("signature_mismatch")) => {}
            (genuine, answer) => panic!("{genuine}: {answer:?}"),
        }
    }
    // 256 wait, one in 16 of them genuine.
    assert_eq!(accepted, 16);
    assert_eq!(world.fetches(), 2);
    let sent = world.sign(&new);
    assert_eq!(verify(&verifier, &sent).await, Ok(()));
}

/// A task carries the fetches on, so that they have failed, and were not abandoned.
#[tokio::test]
async fn forgeries_that_hang_up_cause_no_more_fetches_while_the_key_server_fails() {
    let world = World::new(&SigningKeys::generate());
    let (keys, verifier) = world.keys();
    let task = run(&keys);
    world.pass(SECOND).await;
    let before = world.fetches();
    world.server.down.store(true, Ordering::SeqCst);
    world.delay(Duration::from_millis(200));
    let mut forged = world.forge();
    for _ in 0..150 {
        forged.timestamp = world.clock.now().unix_timestamp().to_string();
        hang_up(verifier.verify_refreshing(&forged, &forged.body));
        world.pass(Duration::from_millis(200)).await;
        world.pass(Duration::from_millis(1_800)).await;
    }
    let fetches = world.fetches() - before;
    assert!(fetches <= 11, "{fetches} fetches in 300 s");
    task.abort();
}

/// The keys may be those of the delivery by now, and nobody could look.
#[tokio::test]
async fn after_a_fetch_that_failed_a_delivery_is_to_come_again() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let world = World::new(&old);
    let (_, verifier) = world.fetched().await;
    world.serve(&new);
    world.server.down.store(true, Ordering::SeqCst);
    world.pass(31 * SECOND).await;
    for _ in 0..3 {
        let sent = world.sign(&new);
        assert_eq!(verify(&verifier, &sent).await, Err("keys_unavailable"));
        world.pass(SECOND).await;
    }
    assert_eq!(world.fetches(), 2, "no other fetch begins in the cool-down");
    world.server.down.store(false, Ordering::SeqCst);
    world.pass(30 * SECOND).await;
    assert_eq!(verify(&verifier, &world.sign(&new)).await, Ok(()));
    let forged = world.forge();
    assert_eq!(verify(&verifier, &forged).await, Err("signature_mismatch"));
}

#[tokio::test]
async fn nobody_waits_longer_than_2_seconds() {
    let google = SigningKeys::generate();
    let world = World::new(&google);
    let (keys, verifier) = world.keys();
    let task = run(&keys);
    world.delay(4 * SECOND);
    let sent = world.sign(&google);
    let request = tokio::spawn(async move { verify(&verifier, &sent).await });
    settle().await;
    world.pass(2 * SECOND).await;
    assert_eq!(request.await.unwrap(), Err("keys_unavailable"));
    task.abort();
}

#[tokio::test]
async fn a_fetch_that_takes_too_long_is_given_up() {
    let google = SigningKeys::generate();
    let world = World::new(&google);
    let (keys, _) = world.keys();
    world.delay(3600 * SECOND);
    let refresh = {
        let keys = Arc::clone(&keys);
        tokio::spawn(async move { keys.refresh().await })
    };
    settle().await;
    world.pass(5 * SECOND).await;
    assert!(refresh.await.unwrap().is_err());
    assert_eq!(keys.time_to_next(), SECOND);
    // What comes late does not land.
    world.pass(3600 * SECOND).await;
    assert_eq!(keys.freshness(), Freshness::Due);
}

#[tokio::test]
async fn a_set_that_was_replaced_meanwhile_is_looked_at() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let world = World::new(&old);
    let (keys, verifier) = world.fetched().await;
    let sent = world.sign(&new);
    // In the cool-down nothing is fetched.
    assert_eq!(verify(&verifier, &sent).await, Err("signature_mismatch"));
    let shared = keys.keys();
    shared.replace(gemini_webhooks::keys::KeySet::from_json(new.jwks().as_bytes()).unwrap());
    assert_eq!(verify(&verifier, &sent).await, Ok(()));
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn a_stale_set_serves_for_48_hours_and_then_asks_to_come_again() {
    let google = SigningKeys::generate();
    let world = World::new(&google);
    let (keys, verifier) = world.fetched().await;
    world.server.down.store(true, Ordering::SeqCst);
    let usable = 600 * SECOND + 48 * 3600 * SECOND;
    world.pass(usable.saturating_sub(SECOND)).await;
    assert_eq!(keys.freshness(), Freshness::Stale);
    assert_eq!(verify(&verifier, &world.sign(&google)).await, Ok(()));
    assert_eq!(world.fetches(), 1);
    world.pass(SECOND).await;
    assert_eq!(keys.freshness(), Freshness::Due);
    let refused = verifier.verify(&world.sign(&google), b"").unwrap_err();
    assert_eq!(refused, Error::KeysUnavailable);
    assert_eq!(
        verify(&verifier, &world.sign(&google)).await,
        Err("keys_unavailable")
    );
    assert_eq!(world.fetches(), 2, "which causes a fetch");
    world.server.down.store(false, Ordering::SeqCst);
    world.pass(31 * SECOND).await;
    assert_eq!(verify(&verifier, &world.sign(&google)).await, Ok(()));
}

/// A key may be replaced under its id, or have none.
#[tokio::test]
async fn a_jwt_under_a_key_that_was_replaced_causes_a_fetch() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let world = World::new(&old);
    // The RSA key of all test keys is the same, so that the Ed25519 keys sign.
    let jwt = |keys: &SigningKeys, kid: Option<&str>| {
        let mut claims: serde_json::Value =
            serde_json::from_str(&sample(&"batch.succeeded".into())).unwrap();
        claims["exp"] = (world.clock.now().unix_timestamp() + 60).into();
        let mut header = serde_json::json!({"alg": "EdDSA"});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let mut sent = world.sign(keys);
        sent.signature = keys.jwt(&header, &claims);
        sent.body.clear();
        sent
    };
    for kid in [None, Some("shared")] {
        let serve = |keys: &SigningKeys| {
            let jwks = match kid {
                Some(_) => keys.jwks().replace(&keys.ed25519_id(0), "shared"),
                None => keys.jwks(),
            };
            *world.server.keys.lock().unwrap() = jwks;
        };
        serve(&old);
        let (_, verifier) = world.fetched().await;
        assert_eq!(verify(&verifier, &jwt(&old, kid)).await, Ok(()));
        serve(&new);
        world.pass(31 * SECOND).await;
        assert_eq!(verify(&verifier, &jwt(&new, kid)).await, Ok(()));
    }
}

/// Without a task that runs the keys, nobody carries on a fetch that hung up.
#[tokio::test]
async fn forgeries_that_hang_up_do_not_keep_keys_that_nobody_runs_from_changing() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let world = World::new(&old);
    let (_, verifier) = world.fetched().await;
    world.serve(&new);
    world.delay(Duration::from_millis(300));
    for minute in 0..3 {
        world.pass(31 * SECOND).await;
        let forged = world.forge();
        hang_up(verifier.verify_refreshing(&forged, &forged.body));
        world.pass(6 * SECOND).await;
        let (sent, verifier) = (world.sign(&new), verifier.clone());
        let honest = tokio::spawn(async move { verify(&verifier, &sent).await });
        settle().await;
        world.pass(Duration::from_millis(300)).await;
        assert_eq!(honest.await.unwrap(), Ok(()), "{minute}");
    }
}
