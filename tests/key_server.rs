//! Keys from a real HTTP server on loopback, which rotates them, fails and misbehaves.

use std::{
    convert::Infallible,
    error::Error as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use gemini_webhooks::{
    Attempt, Error, EventType, PerRequest, Verifier,
    keys::{JwksEndpoint, KeyRefresh, KeySet, Keys, RefreshedKeys},
    testing::{Clock, SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Notify;

const MINUTE: Duration = Duration::from_secs(60);

/// What the server does next.
#[derive(Clone)]
enum Mode {
    Serve(String),
    /// With this `Cache-Control` and this `ETag`.
    Cached(String, &'static str, &'static str),
    Answer(StatusCode, Vec<u8>),
    /// With this `Retry-After`.
    Later(StatusCode, &'static str),
    /// With this `Cache-Control` and this `Age`.
    Aged(String, &'static str, &'static str),
    Redirect(String),
    /// Answers once it is told to.
    Wait(Arc<Notify>, String),
    Never,
    /// One byte at a time, for ever.
    Trickle,
    Endless,
}

struct Server {
    url: String,
    mode: Mutex<Mode>,
    requests: AtomicUsize,
    unchanged: AtomicUsize,
    sent: AtomicUsize,
    /// By which its keys age.
    clock: Clock,
}

impl Server {
    async fn start(mode: Mode) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            mode: Mutex::new(mode),
            requests: AtomicUsize::new(0),
            unchanged: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            clock: Clock::manual(OffsetDateTime::now_utc()),
        });
        let app = Router::new()
            .route("/jwks.json", get(answer))
            .route("/moved.json", get(answer))
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    fn now_does(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn keys(&self) -> Arc<RefreshedKeys> {
        let endpoint = JwksEndpoint::new(&format!("{}/jwks.json", self.url)).unwrap();
        Arc::new(RefreshedKeys::new(endpoint).clock(self.clock.clone()))
    }
}

async fn answer(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> Response {
    server.requests.fetch_add(1, Ordering::SeqCst);
    let mode = server.mode.lock().unwrap().clone();
    let endless = |chunk: &'static [u8], pause: Duration| {
        let server = Arc::clone(&server);
        Body::from_stream(futures_util::stream::unfold((), move |()| {
            let server = Arc::clone(&server);
            async move {
                tokio::time::sleep(pause).await;
                server.sent.fetch_add(chunk.len(), Ordering::SeqCst);
                Some((Ok::<_, Infallible>(Bytes::from_static(chunk)), ()))
            }
        }))
        .into_response()
    };
    match mode {
        Mode::Serve(document) => document.into_response(),
        Mode::Cached(document, control, etag) => {
            let cached = [(header::CACHE_CONTROL, control), (header::ETAG, etag)];
            if headers
                .get(header::IF_NONE_MATCH)
                .is_some_and(|known| known == etag)
            {
                server.unchanged.fetch_add(1, Ordering::SeqCst);
                return (StatusCode::NOT_MODIFIED, cached).into_response();
            }
            (cached, document).into_response()
        }
        Mode::Answer(status, body) => (status, body).into_response(),
        Mode::Redirect(_) if uri.path() == "/moved.json" => {
            SigningKeys::generate().jwks().into_response()
        }
        Mode::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Mode::Wait(go_on, document) => {
            go_on.notified().await;
            document.into_response()
        }
        Mode::Later(status, wait) => (status, [(header::RETRY_AFTER, wait)]).into_response(),
        Mode::Aged(document, control, age) => {
            let headers = [(header::CACHE_CONTROL, control), (header::AGE, age)];
            (headers, document).into_response()
        }
        Mode::Never => std::future::pending().await,
        Mode::Trickle => endless(b" ", Duration::from_millis(20)),
        Mode::Endless => endless(&[b' '; 16 * 1024], Duration::ZERO),
    }
}

fn verifier(keys: impl Into<Keys>) -> Verifier {
    let per_request = PerRequest::any_sender(keys);
    Verifier::builder()
        .per_request(per_request)
        .build()
        .unwrap()
}

fn delivery(keys: &SigningKeys) -> SignedDelivery {
    Signer::v1a(keys).sign(
        "msg_1",
        OffsetDateTime::now_utc(),
        sample(&EventType::BatchSucceeded),
    )
}

fn check(verifier: &Verifier, sent: &SignedDelivery) -> Result<(), Error> {
    verifier.verify(sent, &sent.body).map(drop)
}

async fn refreshing(verifier: &Verifier, sent: &SignedDelivery) -> Result<(), Error> {
    let outcome = verifier.verify_refreshing(sent, &sent.body).await;
    outcome.map(drop)
}

#[tokio::test]
async fn rotated_keys_are_fetched_when_a_delivery_needs_them() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let server = Server::start(Mode::Serve(old.jwks())).await;
    let keys = server.keys();
    let verifier = verifier(Arc::clone(&keys));
    assert_eq!(
        check(&verifier, &delivery(&old)).unwrap_err().code(),
        "keys_unavailable"
    );
    assert!(keys.refresh().await.unwrap());
    check(&verifier, &delivery(&old)).unwrap();

    server.now_does(Mode::Serve(new.jwks()));
    let refused = check(&verifier, &delivery(&new)).unwrap_err();
    assert_eq!(
        (refused.code(), refused.is_refreshable()),
        ("signature_mismatch", true)
    );
    server.clock.advance(MINUTE / 4);
    let too_early = refreshing(&verifier, &delivery(&new)).await.unwrap_err();
    assert_eq!(too_early, refused);
    server.clock.advance(MINUTE / 4);
    refreshing(&verifier, &delivery(&new)).await.unwrap();
    check(&verifier, &delivery(&new)).unwrap();
    assert!(
        check(&verifier, &delivery(&old)).is_err(),
        "a key that is gone no longer counts"
    );
    assert_eq!(server.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_unknown_keys_causes_one_fetch_per_cool_down() {
    let google = SigningKeys::generate();
    let server = Server::start(Mode::Serve(google.jwks())).await;
    let keys = server.keys();
    assert!(keys.refresh().await.unwrap());
    server.clock.advance(MINUTE / 2);
    let verifier = verifier(Arc::clone(&keys));
    for cool_down in 0..3 {
        let mut floods = Vec::new();
        for _ in 0..8 {
            let verifier = verifier.clone();
            let runtime = tokio::runtime::Handle::current();
            // On threads of their own: the server is in this process too, and has to get its turn.
            floods.push(tokio::task::spawn_blocking(move || {
                let timestamp = OffsetDateTime::now_utc().unix_timestamp().to_string();
                let forged = delivery(&SigningKeys::generate());
                for number in 0..1250 {
                    let refused = if number % 50 == 0 {
                        runtime
                            .block_on(refreshing(&verifier, &forged))
                            .unwrap_err()
                    } else {
                        let header = json!({"alg": "RS256", "kid": format!("unknown-{number}")});
                        let token = format!("{}.e30.AAAA", base64_url(&header.to_string()));
                        let attempt = Attempt::new("msg_1", &timestamp, &token);
                        let outcome = runtime.block_on(verifier.verify_refreshing(attempt, b""));
                        outcome.map(drop).unwrap_err()
                    };
                    assert!(refused.is_refreshable(), "{refused}");
                }
            }));
        }
        for flood in floods {
            flood.await.unwrap();
        }
        assert_eq!(server.requests(), 2 + cool_down);
        server.clock.advance(MINUTE / 2);
    }
    check(&verifier, &delivery(&google)).unwrap();
}

fn base64_url(text: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

#[tokio::test]
async fn while_the_server_fails_the_old_keys_serve_on() {
    let google = SigningKeys::generate();
    let server = Server::start(Mode::Serve(google.jwks())).await;
    let keys = server.keys();
    let verifier = verifier(keys.keys());
    assert!(keys.refresh().await.unwrap());

    let whole = google.jwks();
    let short_key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"dG9vIHNob3J0"}]}"#;
    let answer = |status, body: &str| Mode::Answer(status, body.into());
    for (mode, reason) in [
        (answer(StatusCode::INTERNAL_SERVER_ERROR, ""), "500"),
        (answer(StatusCode::NOT_FOUND, &whole), "404"),
        (answer(StatusCode::NO_CONTENT, ""), "204"),
        (answer(StatusCode::NOT_MODIFIED, ""), "304"),
        (
            answer(StatusCode::OK, "<!doctype html><title>Sign in</title>"),
            "not a JSON object",
        ),
        (
            answer(StatusCode::OK, &whole[..whole.len() / 2]),
            "not a JSON object",
        ),
        (answer(StatusCode::OK, ""), "not a JSON object"),
        (answer(StatusCode::OK, r#"{"keys":[]}"#), "it has no keys"),
        (answer(StatusCode::OK, short_key), "32 bytes"),
        (
            Mode::Answer(StatusCode::OK, vec![0xff; 1000]),
            "not a JSON object",
        ),
        (
            Mode::Redirect("http://127.0.0.2:9/jwks.json".into()),
            "redirect",
        ),
        (
            Mode::Redirect("https://example.invalid/jwks.json".into()),
            "redirect",
        ),
        (Mode::Redirect("/jwks.json".into()), "redirect"),
        (Mode::Endless, "longer than 262144 bytes"),
    ] {
        server.now_does(mode);
        server.clock.advance(20 * MINUTE);
        let error = keys.refresh().await.unwrap_err();
        let chain = format!("{error} {error:?}");
        assert!(chain.contains(reason), "{reason}: {chain}");
        check(&verifier, &delivery(&google)).unwrap();
        assert!(!keys.refresh().await.unwrap(), "it backs off");
    }
    // Of an endless document not much more is read than would be allowed: the rest of what was
    // sent lies in the buffers of the sockets.
    assert!(
        server.sent.load(Ordering::SeqCst) < 32 << 20,
        "{:?}",
        server.sent
    );

    let next = SigningKeys::generate();
    server.now_does(Mode::Serve(next.jwks()));
    server.clock.advance(20 * MINUTE);
    assert!(keys.refresh().await.unwrap());
    check(&verifier, &delivery(&next)).unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_costs_nothing_but_its_news() {
    let google = SigningKeys::generate();
    let document = google.jwks();
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let endpoint = JwksEndpoint::new(&format!("http://{gone}/jwks.json")).unwrap();
    let keys = RefreshedKeys::new(endpoint);
    keys.keys()
        .replace(KeySet::from_json(document.as_bytes()).unwrap());
    let error = keys.refresh().await.unwrap_err();
    assert!(error.to_string().contains("can't be fetched"), "{error}");
    check(&verifier(keys.keys()), &delivery(&google)).unwrap();
}

#[tokio::test]
async fn a_fetch_takes_five_seconds_at_most() {
    for mode in [Mode::Never, Mode::Trickle] {
        let server = Server::start(mode).await;
        let keys = server.keys();
        let started = Instant::now();
        let error = keys.refresh().await.unwrap_err();
        assert!(format!("{error:?}").contains("TimedOut"), "{error:?}");
        assert!(
            started.elapsed() >= Duration::from_secs(4),
            "it was given up early"
        );
    }
}

#[tokio::test]
async fn a_redirect_on_the_same_server_is_followed() {
    let server = Server::start(Mode::Redirect("/moved.json".into())).await;
    let keys = server.keys();
    assert!(keys.refresh().await.unwrap());
    assert!(keys.keys().get().is_some());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn caching_headers_are_honoured() {
    let google = SigningKeys::generate();
    let cached = |etag| Mode::Cached(google.jwks(), "public, max-age=7200", etag);
    let server = Server::start(cached("\"one\"")).await;
    let keys = server.keys();
    let clock = &server.clock;
    assert!(keys.refresh().await.unwrap());
    clock.advance(119 * MINUTE);
    assert!(!keys.refresh().await.unwrap());
    clock.advance(MINUTE);
    assert!(keys.refresh().await.unwrap());
    assert_eq!(server.unchanged.load(Ordering::SeqCst), 1);
    check(&verifier(keys.keys()), &delivery(&google)).unwrap();
    clock.advance(119 * MINUTE);
    assert!(!keys.refresh().await.unwrap());

    // A document that could not be used must not be taken for the current one.
    server.now_does(Mode::Cached("{}".into(), "max-age=7200", "\"two\""));
    clock.advance(MINUTE);
    assert!(keys.refresh().await.is_err());
    server.now_does(cached("\"two\""));
    clock.advance(60 * MINUTE);
    assert!(keys.refresh().await.unwrap());
    assert_eq!(server.unchanged.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn verification_does_not_wait_for_a_refresh() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let server = Server::start(Mode::Serve(old.jwks())).await;
    let keys = server.keys();
    let verifier = verifier(Arc::clone(&keys));
    keys.refresh().await.unwrap();

    let go_on = Arc::new(Notify::new());
    server.now_does(Mode::Wait(Arc::clone(&go_on), new.jwks()));
    server.clock.advance(10 * MINUTE);
    let fetching = {
        let keys = Arc::clone(&keys);
        tokio::spawn(async move { keys.refresh().await })
    };
    while server.requests() < 2 {
        tokio::task::yield_now().await;
    }
    // The server answers only after this, so that this can't have waited for it.
    check(&verifier, &delivery(&old)).unwrap();
    assert!(check(&verifier, &delivery(&new)).is_err());
    // Unless it is asked to: it then joins the fetch.
    let waiting = {
        let (verifier, sent) = (verifier.clone(), delivery(&new));
        tokio::spawn(async move { verifier.verify_refreshing(&sent, &sent.body).await.is_ok() })
    };
    go_on.notify_one();
    assert!(fetching.await.unwrap().unwrap());
    assert!(waiting.await.unwrap());
    check(&verifier, &delivery(&new)).unwrap();
    assert_eq!(server.requests(), 2, "one at a time");
}

#[tokio::test]
async fn a_refresh_that_is_dropped_is_made_up_for() {
    let google = SigningKeys::generate();
    let server = Server::start(Mode::Never).await;
    let keys = server.keys();
    let dropped = tokio::time::timeout(Duration::from_millis(50), keys.refresh()).await;
    assert!(dropped.is_err());
    server.now_does(Mode::Serve(google.jwks()));
    // That nobody carried the fetch to its end is no failure.
    server.clock.advance(KeyRefresh::TIMEOUT);
    assert!(keys.refresh().await.unwrap());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_closure_is_a_source() {
    let google = SigningKeys::generate();
    let document = google.jwks();
    let keys = RefreshedKeys::new(move || {
        let document = document.clone();
        async move { Ok::<_, std::io::Error>(document.into_bytes()) }
    });
    assert!(keys.refresh().await.unwrap());
    check(&verifier(keys.keys()), &delivery(&google)).unwrap();
    let failing =
        RefreshedKeys::new(|| async { Err::<Vec<u8>, _>(std::io::Error::other("no disk")) });
    let error = failing.refresh().await.unwrap_err();
    assert_eq!(error.to_string(), "the key set can't be fetched");
    assert_eq!(error.source().unwrap().to_string(), "no disk");
}

/// Answers one request with these lines, and returns the fetch's error.
async fn fetch_error(head: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://localhost:{}/jwks?key=hunter2",
        listener.local_addr().unwrap().port()
    );
    let head = head.to_owned();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    let endpoint = JwksEndpoint::new(&url).unwrap();
    assert!(!format!("{endpoint:?}").contains("hunter2"), "{endpoint:?}");
    let keys = RefreshedKeys::new(endpoint);
    let error = keys.refresh().await.unwrap_err();
    let request = server.await.unwrap();
    assert!(
        request.starts_with("GET /jwks?key=hunter2 HTTP/1.1"),
        "{request}"
    );
    assert!(request.contains("accept-encoding: identity"), "{request}");
    let mut causes = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    let text = causes.join(": ");
    assert!(
        !format!("{text} {error:?}").contains("hunter2"),
        "{text} {error:?}"
    );
    text
}

#[tokio::test]
async fn what_went_wrong_is_said_without_the_query() {
    let compressed = fetch_error(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\u{8b}\x08",
    );
    let compressed = compressed.await;
    assert!(compressed.contains("compressed"), "{compressed}");
    let closed = fetch_error("HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{").await;
    assert!(
        closed.starts_with("the key set can't be fetched: "),
        "{closed}"
    );
    let refused = JwksEndpoint::new("http://127.0.0.1:1/jwks?key=hunter2").unwrap();
    let error = RefreshedKeys::new(refused).refresh().await.unwrap_err();
    let shown = format!("{error:?}");
    assert!(shown.contains("Connection refused"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_left_alone() {
    let google = SigningKeys::generate();
    let server = Server::start(Mode::Later(StatusCode::TOO_MANY_REQUESTS, "120")).await;
    let keys = server.keys();
    assert!(keys.refresh().await.is_err());
    assert_eq!(keys.time_to_next(), 2 * MINUTE);
    server.now_does(Mode::Serve(google.jwks()));
    server.clock.advance(2 * MINUTE);
    assert!(keys.refresh().await.unwrap());
}

#[tokio::test]
async fn the_age_of_an_answer_counts() {
    let google = SigningKeys::generate();
    let server = Server::start(Mode::Aged(google.jwks(), "max-age=3600", "3000")).await;
    let keys = server.keys();
    assert!(keys.refresh().await.unwrap());
    assert_eq!(keys.time_to_next(), 10 * MINUTE);
}

/// Two of the tests above, in a process whose proxy does not exist.
#[tokio::test]
async fn an_address_on_loopback_is_not_asked_through_a_proxy() {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    for name in ["no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    // One asks `127.0.0.1`, the other one `localhost`, which waits for the request for ever.
    command.args([
        "--exact",
        "the_age_of_an_answer_counts",
        "what_went_wrong_is_said_without_the_query",
    ]);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await;
    let output = output.expect("nobody asks the server").unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("2 passed"), "{shown}");
}
