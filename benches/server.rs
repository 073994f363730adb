//! Requests per second over loopback of an axum server that does nothing, that verifies, and that
//! also claims each delivery in a store: `cargo bench --bench server`
//!
//! The server has one thread and the clients another, on connections that are kept alive. Each
//! delivery has a random id, as Google's have. PostgreSQL and Redis are started here, where they are
//! installed, and sync each write to the disk, as SQLite does. SQLite and PostgreSQL are measured in
//! turn with stores that give each operation a commit of its own. `-- sqlite` measures those servers
//! alone whose name has this in it, beside the one that does nothing.

#[path = "support/random.rs"]
mod random;
mod support;
#[path = "support/unbatched.rs"]
mod unbatched;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use gemini_webhooks::{
    Delivery, Inbox, Receiver, Secret, Verifier,
    inbox::InboxStore,
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

use random::{fill, random_id};
use rusqlite::Connection;
use servers::{Server, temporary_path};
use support::{SECRET, SIZES, body};
use unbatched::{UnbatchedPostgres, UnbatchedSqlite};

const TIME: Duration = Duration::from_secs(1);
const TRIES: usize = 4;
const CONNECTIONS: usize = 64;
/// In the tables of SQLite at the beginning.
const ROWS: usize = 50_000;

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

fn accepting(store: impl InboxStore) -> Router {
    let inbox = Inbox::builder(verifier(), store).build().unwrap();
    let handler = async move |headers: HeaderMap, body: Bytes| {
        let reply = inbox.accept(&headers, &body).await;
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
        let sent = signer.sign(random_id(), OffsetDateTime::now_utc(), body.as_str());
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

/// Requests per second of each try, of the servers in turn.
fn measure<const N: usize>(addresses: [SocketAddr; N]) -> [Vec<f64>; N] {
    let once = async |address| {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            clients.spawn(client(address, begun));
        }
        let count: u32 = clients.join_all().await.into_iter().sum();
        f64::from(count) / begun.elapsed().as_secs_f64()
    };
    let mut rates = [const { Vec::new() }; N];
    runtime().block_on(async {
        for _ in 0..TRIES {
            for (rates, address) in rates.iter_mut().zip(addresses) {
                rates.push(once(address).await);
            }
        }
    });
    rates
}

/// Shows the best try: another program on the machine can only take away.
struct Shown {
    bare: f64,
    wanted: Option<String>,
}

impl Shown {
    fn wants(&self, name: &str) -> bool {
        let wanted = self.wanted.as_deref();
        wanted.is_none_or(|wanted| name.contains(wanted))
    }

    fn rate(&self, name: &str, rates: &[f64]) {
        let rate = rates.iter().copied().fold(0.0, f64::max);
        println!(
            "requests_per_second {name} {rate:.0} of_nothing {:.3}",
            rate / self.bare
        );
    }

    fn alone(&self, name: &str, router: impl FnOnce() -> Router + Send + 'static) {
        if self.wants(name) {
            let [rates] = measure([serve(router)]);
            self.rate(name, &rates);
        }
    }

    /// A receiver and an inbox beside a receiver whose store does not batch.
    fn compare(&self, name: &str, addresses: [SocketAddr; 3]) {
        let [batched, accepting, unbatched] = measure(addresses);
        self.rate(&format!("{name}_unbatched"), &unbatched);
        self.ratio(name, &batched, &unbatched);
        self.ratio(&format!("{name}_accept"), &accepting, &unbatched);
    }

    fn ratio(&self, name: &str, batched: &[f64], unbatched: &[f64]) {
        self.rate(name, batched);
        let pairs = batched.iter().zip(unbatched);
        let mut ratios: Vec<_> = pairs
            .map(|(batched, unbatched)| batched / unbatched)
            .collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "ratio {name}: {:.2} times (tries {:.2} to {:.2})",
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1],
        );
    }
}

fn main() {
    let [bare] = measure([serve(nothing)]);
    let shown = Shown {
        bare: bare.iter().copied().fold(0.0, f64::max),
        wanted: std::env::args().skip(1).find(|word| !word.starts_with('-')),
    };
    shown.rate("nothing", &bare);
    shown.alone("v1_verify_event", verifying);
    let memory = MemoryStore::with_capacity(usize::MAX);
    shown.alone("memory", || claiming(memory));

    if shown.wants("sqlite") {
        let path = temporary_path();
        std::fs::create_dir(&path).unwrap();
        let files = ["batched.db", "unbatched.db"].map(|name| path.join(name));
        let store = SqliteStore::open(&files[0]).unwrap();
        let unbatched = UnbatchedSqlite::new(Connection::open(&files[1]).unwrap());
        for file in &files {
            fill(file, ROWS);
        }
        let inbox = store.clone();
        let servers = [
            serve(|| claiming(store)),
            serve(|| accepting(inbox)),
            serve(|| claiming(unbatched)),
        ];
        shown.compare("sqlite", servers);
        std::fs::remove_dir_all(path).unwrap();
    }
    if shown.wants("postgres")
        && let Some(server) = Server::postgres(true)
    {
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
        let unbatched = UnbatchedPostgres::new(&url);
        // Connections belong to the thread that made them.
        let inbox = PostgresStore::connect(&url).unwrap();
        let servers = [
            serve(|| claiming(postgres)),
            serve(|| accepting(inbox)),
            serve(|| claiming(unbatched)),
        ];
        shown.compare("postgres", servers);
    }
    if shown.wants("redis")
        && let Some(server) = Server::redis(false)
    {
        let url = format!("redis://127.0.0.1:{}/", server.port);
        // It wants a runtime already to be made.
        let redis = move || claiming(RedisStore::connect(&url).unwrap());
        shown.alone("redis", redis);
    }
}
