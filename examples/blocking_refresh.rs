//! Keeping the keys current without an async runtime: a thread drives the state machine, and the
//! I/O is one's own.
//!
//! `cargo run --example blocking_refresh`
//!
//! Here the key set is a file, as another program might leave it. The thread reads it when it is
//! due, and when a delivery was refused that newer keys might verify.

use std::{
    error::Error as StdError,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Instant,
};

use gemini_webhooks::{
    Delivery, Error, EventType, PerRequest, Verifier,
    keys::{KeyRefresh, KeySet, SharedKeySet},
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use time::OffsetDateTime;

/// Reads the key set whenever the state machine says so. Ends when no request handler is left.
fn keep_current(keys: &SharedKeySet, path: &Path, refused: &Receiver<Error>) {
    let mut refresh = KeyRefresh::default();
    let mut begun = refresh.begin(Instant::now());
    loop {
        if begun {
            let loaded = std::fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|json| KeySet::from_json(&json).map_err(|error| error.to_string()));
            match loaded {
                Ok(set) => {
                    println!("loaded {} keys", set.len());
                    keys.replace(set);
                    refresh.succeeded(Instant::now(), None);
                }
                Err(error) => {
                    println!("the old keys stay: {error}");
                    refresh.failed(Instant::now(), None);
                }
            }
        }
        begun = match refused.recv_timeout(refresh.time_to_next(Instant::now())) {
            Ok(error) => refresh.begin_after(&error, Instant::now()),
            Err(RecvTimeoutError::Timeout) => refresh.begin(Instant::now()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

/// What a request handler does: it never waits for the thread.
fn receive<'a>(
    verifier: &Verifier,
    refused: &SyncSender<Error>,
    sent: &'a SignedDelivery,
) -> Result<Delivery<'a>, Error> {
    verifier.verify(sent, &sent.body).inspect_err(|error| {
        if error.is_refreshable() {
            // Full: the thread has been told.
            let _ = refused.try_send(error.clone());
        }
    })
}

fn main() -> Result<(), Box<dyn StdError>> {
    let google = SigningKeys::generate();
    let path = std::env::temp_dir().join(format!("jwks-{}.json", std::process::id()));
    let keys = SharedKeySet::default();
    let per_request = PerRequest::any_sender(keys.clone());
    let verifier = Verifier::builder().per_request(per_request).build()?;

    let (refused, inbox) = sync_channel(1);
    let body = sample(&EventType::InteractionCompleted);
    let sent = Signer::v1a(&google).sign("msg_1", OffsetDateTime::now_utc(), body);
    let outcome = receive(&verifier, &refused, &sent).map(drop);
    println!(
        "before there are keys: {}",
        outcome.expect_err("there are no keys")
    );

    std::fs::write(&path, google.jwks())?;
    let driver = thread::spawn({
        let (keys, path) = (keys.clone(), path.clone());
        move || keep_current(&keys, &path, &inbox)
    });
    while keys.get().is_none() {
        thread::yield_now();
    }
    println!(
        "then: {} was signed with {:?}",
        sent.id,
        receive(&verifier, &refused, &sent)?.key_id()
    );

    drop(refused);
    driver.join().expect("the thread ends by itself");
    std::fs::remove_file(path)?;
    Ok(())
}
