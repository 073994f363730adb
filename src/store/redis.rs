use std::{fmt, sync::LazyLock, time::Duration};

use redis::{
    Client, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError, Script,
    ScriptInvocation,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::timeout;

use crate::clock::milliseconds;

use super::{
    Claim, ClaimOutcome, IdempotencyStore, KEEP, StoreError, StoreErrorKind, StoreFuture, bounded,
};

#[cfg_attr(feature = "tls", path = "redis/tls.rs")]
#[cfg_attr(not(feature = "tls"), path = "redis/no_tls.rs")]
mod tls;

/// The value of a key is `claimed:TOKEN:END`, where END is that of the lease in milliseconds, or
/// `done:TOKEN`. A claim that was not completed outlives its lease, so that the next fencing token is
/// larger even if the clock has stepped back.
///
/// Returns 0 and nothing for a key that is done, 1 and the milliseconds that are left for one that is
/// claimed, 2 and the fencing token for one that is claimed by this.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1]) or ''
         if string.sub(held, 1, 5) == 'done:' then return {0, 0} end
         local last, ends = string.match(held, '^claimed:(%d+):(%d+)$')
         local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         if last and tonumber(ends) > now then return {1, tonumber(ends) - now} end
         local token = time[1] * 1000000 + time[2]
         if last and tonumber(last) >= token then token = tonumber(last) + 1 end
         local value = string.format('claimed:%.0f:%.0f', token, now + ARGV[1])
         redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
         return {2, token}",
    )
});

static COMPLETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1])
         local retention = tonumber(ARGV[2])
         if held == 'done:' .. ARGV[1] then
             retention = math.max(retention, redis.call('PTTL', KEYS[1]))
         elseif held then
             local token, ends = string.match(held, '^claimed:(%d+):(%d+)$')
             if not token then return 0 end
             local time = redis.call('TIME')
             local now = time[1] * 1000 + math.floor(time[2] / 1000)
             if token ~= ARGV[1] and tonumber(ends) > now then return 0 end
         end
         redis.call('SET', KEYS[1], 'done:' .. ARGV[1], 'PX', string.format('%.0f', retention))
         return 1",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local held = redis.call('GET', KEYS[1]) or ''
         if string.match(held, '^claimed:(%d+):') == ARGV[1] then
             redis.call('SET', KEYS[1], 'claimed:' .. ARGV[1] .. ':0', 'PX', ARGV[2])
         end
         return 1",
    )
});

/// Remembers in Redis (5 or newer) or Valkey: for any number of machines, by the server's clock.
///
/// Each operation is one script that touches one key, so that it works on Redis Cluster: give
/// [`new`](Self::new) a cluster connection of the `redis` crate. The key of a delivery is
/// `gemini-webhooks:` and its idempotency key. Keys that need no longer be remembered expire.
///
/// It remembers as well as the server is set up to: a key that is evicted (`maxmemory-policy` other
/// than `noeviction`), lost in a crash (`appendfsync` other than `always`) or not yet replicated at
/// a failover lets a duplicate through.
///
/// Calls have to be made in a Tokio runtime, and wait at most 5 s for the answer. Clones share one
/// connection.
#[derive(Clone)]
pub struct RedisStore<C = ConnectionManager> {
    connection: C,
}

impl RedisStore {
    /// Builds a store for a URL such as `redis://user:password@host:6379/0`, or `rediss://` over TLS (feature
    /// `tls`). It connects when it is needed, and anew when the connection is lost.
    ///
    /// The server's certificate is verified with its name, by the authorities that the platform trusts.
    /// With `rediss://`, where the process has not yet chosen a default `CryptoProvider` of rustls, this
    /// installs aws-lc-rs: choose another one before.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`] where the URL is malformed, or requires TLS without the feature
    /// `tls` or without verification (`#insecure`).
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        Self::open(client(url, None)?)
    }

    /// Builds a store like [`connect`](Self::connect), for a server whose certificate is of one of these
    /// authorities: their certificates in PEM.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`] as for [`connect`](Self::connect), and where the certificates
    /// can't be read.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    #[cfg(feature = "tls")]
    pub fn connect_with_roots(url: &str, pem: &[u8]) -> Result<Self, StoreError> {
        Self::open(client(url, Some(pem))?)
    }

    fn open(client: Client) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Self::PATIENCE))
            .set_response_timeout(Some(Self::PATIENCE))
            // The next call tries again.
            .set_number_of_retries(1);
        ConnectionManager::new_lazy_with_config(client, config)
            .map(Self::new)
            .map_err(failure)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Builds a store with a connection of the caller's own, for instance to a cluster. It is cloned for
    /// each operation.
    #[must_use]
    pub const fn new(connection: C) -> Self {
        Self { connection }
    }

    async fn run<T: FromRedisValue>(
        &self,
        mut script: ScriptInvocation<'_>,
        key: &str,
    ) -> Result<T, StoreError> {
        script.key(format!("gemini-webhooks:{key}"));
        let mut connection = self.connection.clone();
        timeout(Self::PATIENCE, script.invoke_async(&mut connection))
            .await
            .map_err(|_| StoreError::from(StoreErrorKind::TimedOut))?
            .map_err(failure)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> IdempotencyStore for RedisStore<C> {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(async move {
            let mut script = CLAIM.prepare_invoke();
            script.arg(expiry(lease));
            script.arg(expiry(lease.saturating_add(KEEP)));
            Ok(match self.run(script, key).await? {
                (0, _) => ClaimOutcome::Done,
                (1, remaining) => ClaimOutcome::InFlight {
                    remaining: Duration::from_millis(u64::try_from(remaining).unwrap_or_default()),
                },
                (_, fencing_token) => ClaimOutcome::New(Claim::new(key, fencing_token)),
            })
        })
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut script = COMPLETE.prepare_invoke();
            script.arg(claim.fencing_token());
            script.arg(expiry(retention));
            self.run(script, claim.key()).await
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut script = RELEASE.prepare_invoke();
            script.arg(claim.fencing_token());
            script.arg(expiry(KEEP));
            self.run::<i64>(script, claim.key()).await.map(drop)
        })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // A claim of a key that no delivery has, for a millisecond. A server that can't be written to,
            // or not by this user, answers a PING too.
            let mut script = CLAIM.prepare_invoke();
            script.arg(1).arg(1);
            self.run::<(i64, i64)>(script, "").await.map(drop)
        })
    }
}

/// Returns the client for a URL, and checks its TLS.
fn client(url: &str, roots: Option<&[u8]>) -> Result<Client, StoreError> {
    let info = url.into_connection_info().map_err(StoreError::refused)?;
    match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => Err(StoreError::refused(
            "`#insecure` would accept the certificate of any server",
        )),
        ConnectionAddr::TcpTls { .. } => tls::client(info, roots),
        _ if roots.is_some() => Err(StoreError::refused(
            "an address without TLS has no use for roots",
        )),
        _ => Client::open(info).map_err(StoreError::refused),
    }
}

/// Tells the errors of the client apart.
fn failure(error: RedisError) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::InvalidClientConfig
        | ErrorKind::AuthenticationFailed
        | ErrorKind::RESP3NotSupported => StoreErrorKind::Configuration,
        // A wrong user, password or right: of the server's own, without a name in the client.
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            StoreErrorKind::Configuration
        }
        _ if tls::is_refusal(&error) => StoreErrorKind::Configuration,
        _ if error.is_timeout() => StoreErrorKind::TimedOut,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::with_source(kind, error)
}

/// Leaves the address out: it may hold a password.
impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// In milliseconds, at least one: Redis knows no shorter time.
fn expiry(time: Duration) -> i64 {
    milliseconds(bounded(time)).max(1)
}
