//! A rotation of keys over real sockets, while forged requests hang up: a few seconds in CI, three
//! minutes with `KEY_SOAK_SECONDS=180 cargo test --all-features --test key_soak -- --nocapture`.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Response, header::CACHE_CONTROL},
    routing::{get, post},
};
use gemini_webhooks::{
    PerRequest, Verifier,
    keys::{JwksEndpoint, RefreshedKeys},
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Serves its keys after 300 ms.
struct KeyServer {
    keys: Mutex<String>,
    fetches: AtomicU32,
}

async fn jwks(State(server): State<Arc<KeyServer>>) -> Response<Body> {
    server.fetches.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let keys = server.keys.lock().unwrap().clone();
    let response = Response::builder().header(CACHE_CONTROL, "max-age=600");
    response.body(Body::from(keys)).unwrap()
}

async fn webhook(State(verifier): State<Verifier>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    match verifier.verify_refreshing(&parts, &body).await {
        Ok(_) => Response::new(Body::empty()),
        Err(refusal) => refusal.response(Body::from(refusal.code())),
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn request(sent: &SignedDelivery) -> Vec<u8> {
    let [id, timestamp, signature] = sent
        .headers()
        .map(|(name, value)| format!("{name}: {value}"));
    let length = sent.body.len();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         {id}\r\n{timestamp}\r\n{signature}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), &sent.body].concat()
}

fn sign(keys: &SigningKeys) -> SignedDelivery {
    let body = sample(&"batch.succeeded".into());
    Signer::v1a(keys).sign("msg_1", OffsetDateTime::now_utc(), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_noticed_while_forgeries_hang_up() {
    let seconds = std::env::var("KEY_SOAK_SECONDS").map_or(5, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut google = SigningKeys::generate();
    let server = Arc::new(KeyServer {
        keys: Mutex::new(google.jwks()),
        fetches: AtomicU32::new(0),
    });
    let router = Router::new().route("/jwks", get(jwks));
    let address = serve(router.with_state(Arc::clone(&server))).await;
    let endpoint = JwksEndpoint::new(&format!("http://{address}/jwks")).unwrap();
    let keys = Arc::new(RefreshedKeys::new(endpoint));
    let verifier = Verifier::builder()
        .per_request(PerRequest::any_sender(Arc::clone(&keys)))
        .build()
        .unwrap();
    let router = Router::new().route("/webhook", post(webhook));
    let receiver = serve(router.with_state(verifier)).await;
    let run = tokio::spawn(async move { keys.run(|error| panic!("{error:?}")).await });

    let stop = Arc::new(AtomicBool::new(false));
    let attack = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut count = 0_u32;
            while !stop.load(Ordering::SeqCst) {
                let mut forged = sign(&SigningKeys::generate());
                forged.id = format!("msg_{count}");
                let mut stream = TcpStream::connect(receiver).await.unwrap();
                stream.write_all(&request(&forged)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                drop(stream);
                count += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            count
        }
    });
    let deliver = async |sent: SignedDelivery| {
        let mut stream = TcpStream::connect(receiver).await.unwrap();
        stream.write_all(&request(&sent)).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.1 200")
    };

    let (mut rotations, mut slowest) = (0, Duration::ZERO);
    while Instant::now() < end {
        let rotated = Instant::now();
        while !deliver(sign(&google)).await {
            let waited = rotated.elapsed();
            assert!(
                waited < Duration::from_secs(60),
                "after {rotations} rotations"
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        slowest = slowest.max(rotated.elapsed());
        tokio::time::sleep(Duration::from_secs(5).min(end - Instant::now().min(end))).await;
        google = SigningKeys::generate();
        *server.keys.lock().unwrap() = google.jwks();
        rotations += 1;
    }
    stop.store(true, Ordering::SeqCst);
    let forgeries = attack.await.unwrap();
    let fetches = server.fetches.load(Ordering::SeqCst);
    println!(
        "{seconds} s: {rotations} rotations, {forgeries} forgeries that hung up, {fetches} fetches, \
         the slowest rotation noticed after {:.1} s",
        slowest.as_secs_f64()
    );
    assert!(u64::from(fetches) <= seconds / 30 + 2, "{fetches} fetches");
    run.abort();
}
