//! The models that the simulated fleet runs on do as the real servers do.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use gemini_webhooks::{
    Inbox,
    inbox::{
        Acceptance, Change, Dead, DeadLetter, Entry, Fate, InboxStore, NewEntry, Round, Stats,
        Taken,
    },
    receiver::{HandlerError, Received},
    store::{Claim, ClaimOutcome, IdempotencyStore, PostgresStore, StoreFuture},
    testing::Clock,
};
use time::OffsetDateTime;

use crate::{
    fixture::{Fixture, client, signed},
    inbox::verifier,
    model::{Model, Server},
    rng::Rng,
};

/// Times of leases end with 5 s, and steps of the clock do not: so the seconds that a test takes decide
/// nothing.
const LEASES: [u64; 4] = [5, 15, 65, 305];
const STEPS: [u64; 5] = [10, 20, 60, 3_600, 88_000];
const RETENTIONS: [u64; 2] = [86_995, 172_805];

/// Both outcomes, in words, without the tokens.
fn same(real: &ClaimOutcome, model: &ClaimOutcome) -> bool {
    match (real, model) {
        (ClaimOutcome::New(_), ClaimOutcome::New(_)) | (ClaimOutcome::Done, ClaimOutcome::Done) => {
            true
        }
        (ClaimOutcome::InFlight { remaining: real }, ClaimOutcome::InFlight { remaining }) => {
            real.abs_diff(*remaining) < Duration::from_secs(4)
        }
        _ => false,
    }
}

async fn compare(fixture: &Fixture, server: Server, seed: u64) {
    let mut rng = Rng::new(seed, "operations of a store");
    // It creates the table, which is looked into.
    fixture.store.check().await.unwrap();
    let clock = Clock::manual(OffsetDateTime::now_utc());
    let model = Model::new(server, clock.clone());
    // Pairs of claims: the server's and the model's.
    let mut claims: Vec<(Claim, Claim)> = Vec::new();
    for number in 0..60 {
        let place = format!("{}, seed {seed}, operation {number}", fixture.name);
        let key = fixture.key(&format!("{seed}-{}", rng.below(3)));
        match rng.below(6) {
            0 | 1 => {
                let lease = Duration::from_secs(*rng.pick(&LEASES));
                let real = fixture.store.claim(&key, lease).await.unwrap();
                let modelled = model.claim(&key, lease).await.unwrap();
                assert!(same(&real, &modelled), "{place}: {real:?}, {modelled:?}");
                if let (ClaimOutcome::New(real), ClaimOutcome::New(modelled)) = (real, modelled) {
                    for (earlier, earlier_modelled) in &claims {
                        if earlier.key() == key {
                            assert!(earlier.fencing_token() < real.fencing_token(), "{place}");
                            let modelled = modelled.fencing_token();
                            assert!(earlier_modelled.fencing_token() < modelled, "{place}");
                        }
                    }
                    claims.push((real, modelled));
                }
            }
            2 if !claims.is_empty() => {
                let (real, modelled) = &claims[rng.index(claims.len())];
                fixture.store.release(real).await.unwrap();
                model.release(modelled).await.unwrap();
            }
            3 | 4 if !claims.is_empty() => {
                let (real, modelled) = &claims[rng.index(claims.len())];
                let retention = Duration::from_secs(*rng.pick(&RETENTIONS));
                let real = fixture.store.complete(real, retention).await.unwrap();
                let modelled = model.complete(modelled, retention).await.unwrap();
                assert_eq!(real, modelled, "{place}");
            }
            _ => {
                let step = Duration::from_secs(*rng.pick(&STEPS));
                clock.advance(step);
                fixture.advance(step).await;
            }
        }
    }
}

#[tokio::test]
async fn the_models_of_the_servers_do_as_the_servers_do() {
    let (postgres, redis) = (Fixture::postgres().await, Fixture::redis());
    for seed in 0..12 {
        if let Some(postgres) = &postgres {
            compare(postgres, Server::Postgres, seed).await;
        }
        if let Some(redis) = &redis {
            compare(redis, Server::Redis, seed).await;
        }
    }
}

/// Stores nothing, and keeps what it was asked for: only an inbox and its worker can build that.
#[derive(Default, Clone)]
struct Templates(Arc<Mutex<(Option<NewEntry>, Option<Round>)>>);

impl Templates {
    async fn read() -> (NewEntry, Round) {
        let templates = Self::default();
        let inbox = Inbox::builder(verifier(), templates.clone())
            .build()
            .unwrap();
        let sent = signed("msg_1", OffsetDateTime::now_utc());
        assert_eq!(inbox.accept(&sent, &sent.body).await.status, 200);
        let handler = async |_: Received<'static>| Ok::<_, HandlerError>(());
        inbox.worker().run(handler, ready(())).await;
        let mut kept = templates.0.lock().unwrap();
        (kept.0.take().unwrap(), kept.1.take().unwrap())
    }
}

impl IdempotencyStore for Templates {
    fn claim<'a>(&'a self, _: &'a str, _: Duration) -> StoreFuture<'a, ClaimOutcome> {
        unreachable!()
    }

    fn complete<'a>(&'a self, _: &'a Claim, _: Duration) -> StoreFuture<'a, bool> {
        unreachable!()
    }

    fn release<'a>(&'a self, _: &'a Claim) -> StoreFuture<'a, ()> {
        unreachable!()
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        unreachable!()
    }
}

impl InboxStore for Templates {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        self.0.lock().unwrap().0 = Some(entry);
        Box::pin(ready(Ok(Acceptance::Stored)))
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        self.0.lock().unwrap().1 = Some(round);
        Box::pin(ready(Ok(Taken::default())))
    }

    fn stats<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Stats> {
        unreachable!()
    }

    fn dead_letters<'a>(
        &'a self,
        _: &'a str,
        _: i64,
        _: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        unreachable!()
    }

    fn retry<'a>(&'a self, _: &'a str, _: i64) -> StoreFuture<'a, bool> {
        unreachable!()
    }

    fn discard<'a>(&'a self, _: &'a str, _: i64) -> StoreFuture<'a, bool> {
        unreachable!()
    }
}

/// An inbox of PostgreSQL beside its model.
struct Both {
    place: String,
    real: PostgresStore,
    connection: tokio_postgres::Client,
    model: Model,
    clock: Clock,
    namespace: Arc<str>,
    /// Claims of both.
    claims: Vec<(Claim, Claim)>,
}

fn close(real: Option<Duration>, model: Option<Duration>) -> bool {
    match (real, model) {
        (Some(real), Some(model)) => real.abs_diff(model) < Duration::from_secs(4),
        (real, model) => real == model,
    }
}

fn random_fate(rng: &mut Rng) -> Fate {
    let cause = format!("cause {}", rng.below(100));
    match rng.below(5) {
        0 => Fate::Remove,
        1 | 2 => Fate::Renew,
        3 => Fate::Retry {
            wait: Duration::from_secs(*rng.pick(&LEASES)),
            cause,
        },
        _ => Fate::Bury(Dead {
            cause,
            retention: Duration::from_secs(*rng.pick(&RETENTIONS)),
        }),
    }
}

impl Both {
    async fn accept(&self, mut entry: NewEntry, rng: &mut Rng) {
        entry.namespace = Arc::clone(&self.namespace);
        entry.key = format!("{}/{}", self.namespace, rng.below(8)).into();
        entry.payload = vec![0; rng.index(9)];
        let dead = Dead {
            cause: "no event".into(),
            retention: Duration::from_secs(*rng.pick(&RETENTIONS)),
        };
        entry.dead = rng.chance(20).then_some(dead);
        let real = self.real.accept(entry.clone()).await.unwrap();
        let model = self.model.accept(entry).await.unwrap();
        assert_eq!(real, model, "{}", self.place);
    }

    async fn round(&mut self, mut round: Round, rng: &mut Rng) {
        let place = &self.place;
        round.namespace = Arc::clone(&self.namespace);
        // Among entries that are due at the same time, either may take any.
        round.take = *rng.pick(&[0, 100]);
        round.lease = Duration::from_secs(*rng.pick(&LEASES));
        let mut modelled = round.clone();
        let mut busy = Vec::new();
        if rng.chance(80) && !self.claims.is_empty() {
            let (real, model) = self.claims[rng.index(self.claims.len())].clone();
            let fate = random_fate(rng);
            if matches!(fate, Fate::Renew) && rng.chance(50) {
                busy.extend(model.entry());
                let id = real.entry().unwrap();
                let lock =
                    format!("BEGIN; SELECT FROM gemini_webhook_inbox WHERE id = {id} FOR UPDATE");
                self.connection.batch_execute(&lock).await.unwrap();
            }
            modelled.changes.push(Change {
                claim: model,
                fate: fate.clone(),
            });
            round.changes.push(Change { claim: real, fate });
        }
        let mut real = self.real.round(round).await.unwrap();
        let mut model = self.model.round_beside(&busy, &modelled);
        if !busy.is_empty() {
            self.connection.batch_execute("ROLLBACK").await.unwrap();
        }
        assert_eq!(real.held, model.held, "{place}: {:?}", modelled.changes);
        assert!(close(real.next, model.next), "{place}: {real:?}, {model:?}");
        for taken in [&mut real, &mut model] {
            taken.entries.sort_by_key(|entry| entry.claim.entry());
        }
        let seen = |entry: &Entry| {
            let key = entry.claim.key().to_owned();
            (key, entry.attempt, entry.payload.clone())
        };
        let [one, other]: [Vec<_>; 2] =
            [&real, &model].map(|taken| taken.entries.iter().map(seen).collect());
        assert_eq!(one, other, "{place}");
        let claims = real.entries.into_iter().zip(model.entries);
        self.claims
            .extend(claims.map(|(real, model)| (real.claim, model.claim)));
    }

    async fn look(&self, rng: &mut Rng) {
        let (place, namespace) = (&self.place, &*self.namespace);
        let real = self.real.stats(namespace).await.unwrap();
        let model = self.model.stats(namespace).await.unwrap();
        let counts = |it: &Stats| [it.due, it.waiting, it.working, it.dead];
        assert_eq!(counts(&real), counts(&model), "{place}");
        assert!(close(real.oldest, model.oldest), "{place}");
        let limit = 1 + rng.index(9);
        let real = self.real.dead_letters(namespace, 0, limit).await.unwrap();
        let model = self.model.dead_letters(namespace, 0, limit).await.unwrap();
        let seen = |it: &DeadLetter| (it.attempts, it.cause.clone());
        let [one, other]: [Vec<_>; 2] =
            [&real, &model].map(|letters| letters.iter().map(seen).collect());
        assert_eq!(one, other, "{place}");
        let Some(index) = (!real.is_empty()).then(|| rng.index(real.len())) else {
            return;
        };
        let ids = (real[index].id, model[index].id);
        // The second time, it is gone.
        for expected in [true, false] {
            let (real, model) = if rng.chance(50) {
                let real = self.real.retry(namespace, ids.0).await.unwrap();
                (real, self.model.retry(namespace, ids.1).await.unwrap())
            } else {
                let real = self.real.discard(namespace, ids.0).await.unwrap();
                (real, self.model.discard(namespace, ids.1).await.unwrap())
            };
            assert_eq!([real, model], [expected; 2], "{place}");
        }
    }

    async fn advance(&self, step: Duration) {
        self.clock.advance(step);
        let earlier = "UPDATE gemini_webhook_deliveries SET
            held_until = held_until - make_interval(secs => $1),
            forget_at = forget_at - make_interval(secs => $1)";
        let earlier_entries = "UPDATE gemini_webhook_inbox SET
            received_at = received_at - make_interval(secs => $1),
            due_at = due_at - make_interval(secs => $1),
            died_at = died_at - make_interval(secs => $1),
            forget_at = forget_at - make_interval(secs => $1)";
        for earlier in [earlier, earlier_entries] {
            let seconds = step.as_secs_f64();
            self.connection.execute(earlier, &[&seconds]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_model_of_an_inbox_does_as_postgresql_does() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let (entry, round) = Templates::read().await;
    for seed in 0..12 {
        let mut rng = Rng::new(seed, "operations of an inbox");
        let real = PostgresStore::connect(&fixture.url()).unwrap();
        // It creates the tables.
        real.stats("").await.unwrap();
        let clock = Clock::manual(OffsetDateTime::now_utc());
        let mut both = Both {
            place: String::new(),
            real,
            connection: client(&fixture.url()).await,
            model: Model::new(Server::Postgres, clock.clone()),
            clock,
            namespace: seed.to_string().into(),
            claims: Vec::new(),
        };
        for number in 0..100 {
            both.place = format!("seed {seed}, operation {number}");
            both.clock.advance(Duration::from_millis(1));
            match rng.below(10) {
                0..=2 => both.accept(entry.clone(), &mut rng).await,
                3..=6 => both.round(round.clone(), &mut rng).await,
                7 => both.look(&mut rng).await,
                _ => {
                    let step = Duration::from_secs(*rng.pick(&STEPS));
                    both.advance(step).await;
                }
            }
        }
    }
}
