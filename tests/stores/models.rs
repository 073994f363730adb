//! The models that the simulated fleet runs on do as the real servers do.

use std::time::Duration;

use gemini_webhooks::{
    store::{Claim, ClaimOutcome, IdempotencyStore},
    testing::Clock,
};
use time::OffsetDateTime;

use crate::{
    fixture::Fixture,
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
