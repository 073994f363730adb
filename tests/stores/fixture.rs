//! The stores, and a way to let time pass in them.

use std::{
    error::Error,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::tokio_postgres::{self, NoTls};
use gemini_webhooks::{
    Receiver, Secret, Verifier,
    receiver::ReceiverBuilder,
    store::{IdempotencyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore},
    testing::{Clock, SignedDelivery, Signer, sample},
};
use time::OffsetDateTime;

use crate::servers::{Server, temporary_path};

static POSTGRES: LazyLock<Option<Server>> = LazyLock::new(|| Server::postgres(false));
static REDIS: LazyLock<Option<Server>> = LazyLock::new(|| Server::redis(false));

pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// An empty store, with nobody else in it.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) store: Arc<dyn IdempotencyStore>,
    /// Drives the verifier of the receivers, and the stores that have no server with a clock of its
    /// own.
    pub(crate) clock: Clock,
    /// That of its receivers, and the beginning of its keys.
    pub(crate) namespace: String,
}

pub(crate) enum Place {
    Memory,
    Sqlite(File),
    Postgres(String),
    Redis(String),
}

/// A database file, which goes with this.
pub(crate) struct File(pub(crate) PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The commits in the write-ahead log of an SQLite database since its last checkpoint.
pub(crate) fn commits(file: &File) -> usize {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    const PAGE: usize = 4096;
    let mut path = file.0.clone().into_os_string();
    path.push("-wal");
    let log = std::fs::read(path).unwrap();
    let Some((header, frames)) = log.split_at_checked(HEADER) else {
        return 0;
    };
    let frames = frames.chunks_exact(FRAME_HEADER + PAGE);
    // Frames of an earlier round have another salt. A commit's last frame has the database's size.
    let current = frames.take_while(|frame| frame[8..16] == header[16..24]);
    current.filter(|frame| frame[4..8] != [0; 4]).count()
}

impl Fixture {
    /// One of each store, without those whose server is not installed.
    pub(crate) async fn all() -> Vec<Self> {
        let mut all = vec![Self::memory(), Self::sqlite()];
        all.extend(Self::postgres().await);
        all.extend(Self::redis());
        all
    }

    /// Those that several processes can share. `STORE=sqlite` leaves one of them.
    pub(crate) async fn shared() -> Vec<Self> {
        let wanted = std::env::var("STORE");
        let mut shared = Self::all().await;
        shared.retain(|fixture| {
            !matches!(fixture.place, Place::Memory)
                && wanted
                    .as_ref()
                    .map_or(true, |wanted| wanted == fixture.name)
        });
        shared
    }

    pub(crate) fn memory() -> Self {
        let clock = clock();
        let store = MemoryStore::default().clock(clock.clone());
        Self::new("memory", Place::Memory, Arc::new(store), clock)
    }

    pub(crate) fn sqlite() -> Self {
        let path = temporary_path();
        let clock = clock();
        let store = SqliteStore::open(&path).unwrap().clock(clock.clone());
        Self::new("sqlite", Place::Sqlite(File(path)), Arc::new(store), clock)
    }

    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::postgres_on(POSTGRES.as_ref()?).await)
    }

    /// In a schema of its own.
    pub(crate) async fn postgres_on(server: &Server) -> Self {
        let schema = unique();
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
        // The server may be listening, and not ready yet.
        let client = loop {
            match tokio_postgres::connect(&url, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    break client;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let create = format!("CREATE SCHEMA {schema}");
        client.batch_execute(&create).await.unwrap();
        let url = format!("{url}?options=-csearch_path%3D{schema}");
        let store = PostgresStore::connect(&url).unwrap();
        Self::new("postgres", Place::Postgres(url), Arc::new(store), clock())
    }

    pub(crate) fn redis() -> Option<Self> {
        Some(Self::redis_on(REDIS.as_ref()?))
    }

    pub(crate) fn redis_on(server: &Server) -> Self {
        let url = format!("redis://127.0.0.1:{}/", server.port);
        let store = RedisStore::connect(&url).unwrap();
        Self::new("redis", Place::Redis(url), Arc::new(store), clock())
    }

    fn new(
        name: &'static str,
        place: Place,
        store: Arc<dyn IdempotencyStore>,
        clock: Clock,
    ) -> Self {
        Self {
            name,
            place,
            store,
            clock,
            namespace: unique(),
        }
    }

    /// How many keys there are, where one can look.
    pub(crate) async fn count(&self) -> Option<i64> {
        const COUNT: &str = "SELECT count(*) FROM gemini_webhook_deliveries";
        Some(match &self.place {
            Place::Memory => return None,
            Place::Sqlite(file) => {
                let connection = rusqlite::Connection::open(&file.0).unwrap();
                connection.query_row(COUNT, [], |row| row.get(0)).unwrap()
            }
            Place::Postgres(url) => {
                let row = client(url).await.query_one(COUNT, &[]).await.unwrap();
                row.get(0)
            }
            Place::Redis(url) => {
                let mut keys = redis::cmd("KEYS");
                keys.arg(format!("gemini-webhooks:{}/*", self.namespace));
                let mut connection = redis_connection(url).await;
                let keys: Vec<String> = keys.query_async(&mut connection).await.unwrap();
                keys.len().try_into().unwrap()
            }
        })
    }

    /// As `GEMINI_WEBHOOK_STORE` has it.
    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::Memory => "memory".into(),
            Place::Sqlite(file) => format!("sqlite:{}", file.0.display()),
            Place::Postgres(url) | Place::Redis(url) => url.clone(),
        }
    }

    /// As a receiver makes it.
    pub(crate) fn key(&self, id: &str) -> String {
        format!("{}/{id}", self.namespace)
    }

    /// Verifies by the fixture's clock.
    pub(crate) fn verifier(&self) -> Verifier {
        let secret = Secret::parse(SECRET).unwrap();
        let builder = Verifier::builder().secret(secret);
        builder.clock(self.clock.clone()).build().unwrap()
    }

    pub(crate) fn builder(&self) -> ReceiverBuilder {
        Receiver::builder(self.verifier(), Arc::clone(&self.store)).namespace(&self.namespace)
    }

    pub(crate) fn receiver(&self) -> Receiver {
        self.builder().build().unwrap()
    }

    /// An attempt at the time of the fixture's clock.
    pub(crate) fn signed(&self, id: &str) -> SignedDelivery {
        signed(id, self.clock.now())
    }

    /// Lets time pass: the clock advances, and the servers, which have their own, move their times
    /// back.
    pub(crate) async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        match &self.place {
            Place::Memory | Place::Sqlite(_) => {}
            Place::Postgres(url) => {
                let earlier = "UPDATE gemini_webhook_deliveries SET
                    held_until = held_until - make_interval(secs => $1),
                    forget_at = forget_at - make_interval(secs => $1)";
                let client = client(url).await;
                client.execute(earlier, &[&by.as_secs_f64()]).await.unwrap();
            }
            Place::Redis(url) => {
                let script = redis::Script::new(
                    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
                         local left = redis.call('PTTL', key) - ARGV[2]
                         local claim, ends =
                             string.match(redis.call('GET', key), '^(claimed:%d+:)(%d+)$')
                         if claim then
                             ends = math.max(ends - ARGV[2], 0)
                             redis.call('SET', key, string.format('%s%.0f', claim, ends))
                         end
                         redis.call('PEXPIRE', key, left)
                     end",
                );
                let mut script = script.prepare_invoke();
                script.arg(format!("gemini-webhooks:{}/*", self.namespace));
                script.arg(i64::try_from(by.as_millis()).unwrap());
                let mut connection = redis_connection(url).await;
                script.invoke_async::<()>(&mut connection).await.unwrap();
            }
        }
    }

    /// Sets the wall clock back, and returns by how much the fencing tokens that were given before
    /// have grown: the servers, which have their own, move their times and tokens ahead.
    pub(crate) async fn step_back(&self, by: Duration) -> i64 {
        let microseconds = i64::try_from(by.as_micros()).unwrap();
        match &self.place {
            Place::Memory | Place::Sqlite(_) => {
                self.clock.set(self.clock.now() - by);
                return 0;
            }
            Place::Postgres(url) => {
                let later = "UPDATE gemini_webhook_deliveries SET
                    fencing_token = fencing_token + $2,
                    held_until = held_until + make_interval(secs => $1),
                    forget_at = forget_at + make_interval(secs => $1)";
                let client = client(url).await;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
                    [&by.as_secs_f64(), &microseconds];
                client.execute(later, &parameters).await.unwrap();
            }
            Place::Redis(url) => {
                let script = redis::Script::new(
                    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
                         local left = redis.call('PTTL', key) + ARGV[2]
                         local value = redis.call('GET', key)
                         local state, token, rest = string.match(value, '^(%a+:)(%d+)(.*)$')
                         token = string.format('%.0f', token + ARGV[2] * 1000)
                         if rest ~= '' then
                             rest = string.format(':%.0f', string.sub(rest, 2) + ARGV[2])
                         end
                         redis.call('SET', key, state .. token .. rest)
                         redis.call('PEXPIRE', key, left)
                     end",
                );
                let mut script = script.prepare_invoke();
                script.arg(format!("gemini-webhooks:{}/*", self.namespace));
                script.arg(i64::try_from(by.as_millis()).unwrap());
                let mut connection = redis_connection(url).await;
                script.invoke_async::<()>(&mut connection).await.unwrap();
            }
        }
        microseconds
    }
}

pub(crate) async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) async fn redis_connection(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// It stands still until a test advances it.
fn clock() -> Clock {
    Clock::manual(OffsetDateTime::now_utc())
}

/// An error and its causes, as a logger shows them.
pub(crate) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn signed(id: &str, now: OffsetDateTime) -> SignedDelivery {
    let secret = Secret::parse(SECRET).unwrap();
    Signer::v1(&secret).sign(id, now, sample(&"batch.succeeded".into()))
}
