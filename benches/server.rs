//! Requests per second over loopback of an axum server that does nothing, that verifies, and that
//! also claims each delivery in a store: `cargo bench --bench server`
//!
//! The server has one thread and the clients another, on connections that are kept alive. Each
//! delivery has an id of its own. PostgreSQL and Redis are started here, where they are installed,
//! and sync each write to the disk, as SQLite does.

mod support;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use gemini_webhooks::{
    Delivery, Receiver, Secret, Verifier,
    receiver::Received,
    store::{IdempotencyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore},
    testing::Signer,
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

#[path = "../tests/stores/servers.rs"]
#[allow(dead_code, reason = "it serves the tests of the stores too")]
mod servers;

use servers::{Server, temporary_path};
use support::{SECRET, SIZES, body};

const TIME: Duration = Duration::from_secs(1);
const TRIES: usize = 4;
const CONNECTIONS: usize = 64;
/// Of the next delivery.
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn verifier() -> Verifier {
    let secret = Secret::parse(SECRET).unwrap();
    Verifier::builder().secret(secret).build().unwrap()
}

/// Serves until the process ends, on a thread of its own.
fn serve(router: impl FnOnce() -> Router + Send + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router()).await
        })
    });
    address
}

fn nothing() -> Router {
    Router::new().route(
        "/webhook",
        post(async |_: HeaderMap, _: Bytes| StatusCode::OK),
    )
}

fn verifying() -> Router {
    let verifier = verifier();
    let handler = async move |headers: HeaderMap, body: Bytes| {
        let event = verifier.verify(&headers, &body).map(Delivery::into_event);
        match event {
            Ok(Ok(_)) => StatusCode::OK,
            _ => StatusCode::BAD_REQUEST,
        }
    };
    Router::new().route("/webhook", post(handler))
}

fn claiming(store: impl IdempotencyStore) -> Router {
    let receiver = Receiver::builder(verifier(), store).build().unwrap();
    let handler = async move |headers: HeaderMap, body: Bytes| {
        let handle = async |received: Received<'_>| received.event().map(drop);
        let reply = receiver.handle(&headers, &body, handle).await;
        reply.status_code()
    };
    Router::new().route("/webhook", post(handler))
}

/// One delivery after the other over one connection.
async fn client(address: SocketAddr, begun: Instant) -> u32 {
    let signer = Signer::v1(&Secret::parse(SECRET).unwrap());
    let body = body(SIZES[0]);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = vec![0; 1024];
    let mut count = 0;
    while begun.elapsed() < TIME {
        let id = format!("msg_{:032x}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let sent = signer.sign(id, OffsetDateTime::now_utc(), body.as_str());
        let request = format!(
            "POST /webhook HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nwebhook-id: {}\r\nwebhook-timestamp: {}\r\n\
             webhook-signature: {}\r\n\r\n{body}",
            body.len(),
            sent.id,
            sent.timestamp,
            sent.signature,
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut length = 0;
        while !answer[..length].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut answer[length..]).await.unwrap();
            assert_ne!(read, 0, "the connection ends");
            length += read;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        count += 1;
    }
    count
}

/// Requests per second: the best of some tries, since another program on the machine can only take
/// away.
fn measure(router: impl FnOnce() -> Router + Send + 'static) -> f64 {
    let address = serve(router);
    let once = async || {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            clients.spawn(client(address, begun));
        }
        let count: u32 = clients.join_all().await.into_iter().sum();
        f64::from(count) / begun.elapsed().as_secs_f64()
    };
    runtime().block_on(async {
        let mut best = 0.0_f64;
        for _ in 0..TRIES {
            best = best.max(once().await);
        }
        best
    })
}

fn main() {
    let bare = measure(nothing);
    let show = |name: &str, rate: f64| {
        println!(
            "requests_per_second {name} {rate:.0} of_nothing {:.3}",
            rate / bare
        );
    };
    show("nothing", bare);
    show("v1_verify_event", measure(verifying));
    let memory = MemoryStore::with_capacity(usize::MAX);
    show("memory", measure(|| claiming(memory)));

    let path = temporary_path();
    std::fs::create_dir(&path).unwrap();
    let sqlite = SqliteStore::open(path.join("deliveries.db")).unwrap();
    show("sqlite", measure(|| claiming(sqlite)));
    std::fs::remove_dir_all(path).unwrap();

    if let Some(server) = Server::postgres(true) {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
        let postgres = PostgresStore::connect(&url).unwrap();
        // The server may be listening, and not ready yet.
        let ready = async {
            while postgres.claim("ready", TIME).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        runtime().block_on(ready);
        // What made its connections is gone.
        let postgres = PostgresStore::connect(&url).unwrap();
        show("postgres", measure(|| claiming(postgres)));
    }
    if let Some(server) = Server::redis(false) {
        let url = format!("redis://127.0.0.1:{}/", server.port);
        // It wants a runtime already to be made.
        let redis = move || claiming(RedisStore::connect(&url).unwrap());
        show("redis", measure(redis));
    }
}
