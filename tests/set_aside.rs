//! Errors of handlers: what is retried, and what is set aside.

use std::{error::Error, fmt, time::Duration};

use gemini_webhooks::{
    PayloadError, Receiver, Secret, Verifier,
    receiver::{HandlerError, Outcome, Received},
    store::MemoryStore,
    testing::{SignedDelivery, Signer, sample},
};
use time::OffsetDateTime;

fn secret() -> Secret {
    Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap()
}

fn receiver() -> Receiver {
    let verifier = Verifier::builder().secret(secret()).build().unwrap();
    let receiver = Receiver::builder(verifier, MemoryStore::default());
    receiver.build().unwrap()
}

fn sign(body: &str) -> SignedDelivery {
    Signer::v1(&secret()).sign("msg_1", OffsetDateTime::now_utc(), body)
}

/// An error that another one caused.
#[derive(Debug)]
struct Context(PayloadError);

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it can't be understood")
    }
}

impl Error for Context {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

async fn unreadable(delivery: Received<'_>) -> Result<(), HandlerError> {
    delivery.event()?;
    Ok(())
}

async fn unreadable_in_context(delivery: Received<'_>) -> Result<(), HandlerError> {
    delivery.event().map_err(Context)?;
    Ok(())
}

async fn permanent(_: Received<'_>) -> Result<(), HandlerError> {
    Err(HandlerError::permanent("it names no job"))
}

#[tokio::test]
async fn a_permanent_error_is_acknowledged_and_not_handled_again() {
    for number in 0..3 {
        let receiver = receiver();
        let sent = sign("no event");
        let reply = match number {
            0 => receiver.handle(&sent, &sent.body, unreadable).await,
            1 => {
                receiver
                    .handle(&sent, &sent.body, unreadable_in_context)
                    .await
            }
            _ => receiver.handle(&sent, &sent.body, permanent).await,
        };
        assert_eq!((reply.status, reply.outcome.code()), (200, "set_aside"));
        let Outcome::SetAside(error) = &reply.outcome else {
            panic!("{reply:?}");
        };
        assert!(error.is_permanent());
        assert_eq!(reply.delivery.unwrap().payload(), b"no event");
        let again = receiver.handle(&sent, &sent.body, async |_| {
            panic!("it is not handled again");
            #[expect(unreachable_code, reason = "it gives the type")]
            Ok::<_, String>(())
        });
        assert_eq!(again.await.outcome.code(), "duplicate");
    }
}

#[tokio::test]
async fn any_other_error_is_retried() {
    let receiver = receiver();
    let sent = sign(&sample(&"batch.succeeded".into()));
    for wait in [None, Some(90)] {
        let reply = receiver.handle(&sent, &sent.body, async |_| {
            let error = HandlerError::from(std::io::Error::other("no disk"));
            assert!(!error.is_permanent());
            Err::<(), _>(match wait {
                Some(seconds) => error.retry_after(Duration::from_secs(seconds)),
                None => error,
            })
        });
        let reply = reply.await;
        assert_eq!((reply.status, reply.outcome.code()), (500, "failed"));
        assert_eq!(reply.retry_after, wait.map(Duration::from_secs));
    }
    let reply = receiver.handle(&sent, &sent.body, unreadable).await;
    assert_eq!(reply.outcome.code(), "processed");
}
