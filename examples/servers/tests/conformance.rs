//! One suite over real HTTP, for every server: the same requests, the same answers.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use gemini_webhooks::{
    EventType, JobTokens, Secret,
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const JOB_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Long enough for a busy machine, so that only a real stall reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    name: &'static str,
    address: SocketAddr,
    google: SigningKeys,
    jwks: PathBuf,
    _process: Child,
}

impl Server {
    async fn start(name: &'static str, program: &str) -> Self {
        let google = SigningKeys::generate();
        let jwks = format!("gemini-webhooks-{}-{name}.json", std::process::id());
        let jwks = std::env::temp_dir().join(jwks);
        std::fs::write(&jwks, google.jwks()).unwrap();
        let address = free_address();
        let process = Command::new(program)
            .env("BIND", address.to_string())
            .env("GEMINI_WEBHOOK_SECRETS", SECRET)
            .env("GEMINI_WEBHOOK_JWKS", &jwks)
            .env("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, listens)
            .await
            .expect("it does not listen");
        Self {
            name,
            address,
            google,
            jwks,
            _process: process,
        }
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Connection(BufReader::new(stream))
    }

    /// Over a connection of its own.
    async fn send(&self, request: &[u8]) -> (u16, String) {
        let mut connection = self.connect().await;
        connection.send(request).await
    }

    async fn expect(&self, what: &str, request: &[u8], expected: (u16, &str)) {
        let (status, text) = self.send(request).await;
        let code = text.split(':').next().unwrap();
        assert_eq!((status, code), expected, "{}, {what}: {text}", self.name);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.jwks);
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    /// The status and the text of the answer. A server may answer before it has read everything.
    async fn send(&mut self, request: &[u8]) -> (u16, String) {
        let (read, mut write) = self.0.get_mut().split();
        let mut read = BufReader::new(read);
        let writing = async {
            let _ = write.write_all(request).await;
            std::future::pending::<()>().await;
        };
        let reading = timeout(PATIENCE, answer(&mut read));
        tokio::select! {
            answer = reading => answer.expect("there is no answer"),
            () = writing => unreachable!(),
        }
    }
}

async fn answer(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = read.read_line(&mut head).await.unwrap();
        assert_ne!(read, 0, "the connection ends with {head:?}");
    }
    let head = head.to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = Vec::new();
    if let Some((_, length)) = head.split_once("content-length:") {
        let length: usize = length.split("\r\n").next().unwrap().trim().parse().unwrap();
        body.resize(length, 0);
        read.read_exact(&mut body).await.unwrap();
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            read.read_line(&mut size).await.unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            read.read_exact(&mut chunk).await.unwrap();
            if size == 0 {
                break;
            }
            body.extend(&chunk[..size]);
        }
    }
    (status, String::from_utf8(body).unwrap())
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn signed(body: impl Into<Vec<u8>>) -> SignedDelivery {
    let secret = Secret::parse(SECRET).unwrap();
    Signer::v1(&secret).sign("msg_1", now(), body.into())
}

fn ours(signer: &Signer, key: &str) -> SignedDelivery {
    let token = JobTokens::parse(key).unwrap().mint_for("nightly").unwrap();
    let body = sample(&EventType::VideoGenerated);
    let body = body.trim_end_matches('}').to_owned()
        + &format!(
            "}},\"user_metadata\":{{\"{}\":\"{token}\"}}}}",
            JobTokens::MEMBER
        );
    signer.sign("msg_1", now(), body)
}

fn head(sent: &SignedDelivery) -> String {
    let mut head = "POST /webhook HTTP/1.1\r\nHost: localhost\r\n".to_owned();
    for (name, value) in sent.headers() {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head
}

fn request(sent: &SignedDelivery) -> Vec<u8> {
    with_length(&head(sent), &sent.body)
}

fn with_length(head: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), length.as_bytes(), body].concat()
}

fn in_chunks(head: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut request = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(size) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend([chunk, b"\r\n"].concat());
    }
    request.extend(b"0\r\n\r\n");
    request
}

async fn conforms(name: &'static str, program: &str) {
    let server = Server::start(name, program).await;
    schemes(&server).await;
    heads(&server).await;
    queries(&server).await;
    callback_uris(&server).await;
    bodies(&server).await;
    connections(&server).await;
}

async fn schemes(server: &Server) {
    let v1a = Signer::v1a(&server.google);
    let jwt = Signer::jwt(&server.google, "https://example.com/webhook");
    let v1 = signed(sample(&EventType::VideoGenerated));
    let accepted = (200, "video.generated");
    server.expect("v1", &request(&v1), accepted).await;
    for (what, signer) in [("v1a", &v1a), ("jwt", &jwt)] {
        server
            .expect(what, &request(&ours(signer, JOB_KEY)), accepted)
            .await;
        let foreign = ours(signer, &JOB_KEY.replace("Bwc", "CQc"));
        server
            .expect(what, &request(&foreign), (403, "unknown_origin"))
            .await;
    }
    let unknown = SigningKeys::generate();
    let forged = ours(&Signer::v1a(&unknown), JOB_KEY);
    server
        .expect("forged v1a", &request(&forged), (401, "signature_mismatch"))
        .await;
    let forged = ours(
        &Signer::jwt(&unknown, "https://example.com/webhook"),
        JOB_KEY,
    );
    server
        .expect("forged jwt", &request(&forged), (401, "unknown_key"))
        .await;
    let mut swapped = ours(&jwt, JOB_KEY);
    swapped.body = sample(&EventType::BatchFailed).into();
    server
        .expect("another body", &request(&swapped), (401, "body_not_bound"))
        .await;
    let mut tampered = v1.clone();
    tampered.body.push(b' ');
    server
        .expect("tampered", &request(&tampered), (401, "signature_mismatch"))
        .await;
    let mut stale = v1.clone();
    stale.timestamp = "1780000000".into();
    server
        .expect("stale", &request(&stale), (400, "timestamp_too_old"))
        .await;
}

async fn heads(server: &Server) {
    let sent = signed(sample(&EventType::BatchExpired));
    let accepted = (200, "batch.expired");
    for [id, timestamp, signature] in [
        ["WEBHOOK-ID", "WEBHOOK-TIMESTAMP", "WEBHOOK-SIGNATURE"],
        ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"],
        ["wEbHoOk-iD", "webhook-TIMESTAMP", "WebHook-SignaTure"],
    ] {
        let head = head(&sent)
            .replace("webhook-id:", &format!("{id}:"))
            .replace("webhook-timestamp:", &format!("{timestamp}:"))
            .replace("webhook-signature:", &format!("{signature}:"));
        server
            .expect(id, &with_length(&head, &sent.body), accepted)
            .await;
    }
    for (name, value) in sent.headers() {
        let twice = format!("{}{}: {value}\r\n", head(&sent), name.to_uppercase());
        let twice = with_length(&twice, &sent.body);
        server.expect(name, &twice, (400, "duplicate_header")).await;
        let without = head(&sent).replace(&format!("{name}: {value}\r\n"), "");
        let without = with_length(&without, &sent.body);
        server.expect(name, &without, (400, "missing_header")).await;
    }
}

/// The token of a job may be in the query of its callback URI.
async fn callback_uris(server: &Server) {
    let token = |key: &str| JobTokens::parse(key).unwrap().mint_for("nightly").unwrap();
    let (ours, others) = (token(JOB_KEY), token(&JOB_KEY.replace("Bwc", "CQc")));
    for signer in [
        Signer::v1a(&server.google),
        Signer::jwt(&server.google, "https://example.com/webhook"),
    ] {
        let sent = signer.sign("msg_1", now(), sample(&EventType::BatchExpired));
        for (uri, expected) in [
            ("/webhook".to_owned(), (403, "unknown_origin")),
            (
                JobTokens::callback_uri("/webhook", &ours),
                (200, "batch.expired"),
            ),
            (
                JobTokens::callback_uri("/webhook?tenant=a%2Fb", &ours),
                (200, "batch.expired"),
            ),
            (
                JobTokens::callback_uri("/webhook", &others),
                (403, "unknown_origin"),
            ),
        ] {
            let head = head(&sent).replace("/webhook ", &format!("{uri} "));
            let request = with_length(&head, &sent.body);
            server.expect(&uri, &request, expected).await;
        }
    }
}

/// An address may have a query. It is no part of what is signed.
async fn queries(server: &Server) {
    let sent = signed(sample(&EventType::BatchExpired));
    for query in ["?", "?a", "?a=b&c=%2F%26&a=d"] {
        let head = head(&sent).replace("/webhook ", &format!("/webhook{query} "));
        let request = with_length(&head, &sent.body);
        server.expect(query, &request, (200, "batch.expired")).await;
    }
}

async fn bodies(server: &Server) {
    let sent = signed(sample(&EventType::BatchExpired));
    for size in [1, 50, 100_000] {
        let request = in_chunks(&head(&sent), &sent.body, size);
        server
            .expect("in chunks", &request, (200, "batch.expired"))
            .await;
    }
    let unreadable = (200, "set_aside");
    let no_text = signed(b"\xff\xfe{}".to_vec());
    server
        .expect("not UTF-8", &request(&no_text), unreadable)
        .await;
    let mut forged = no_text;
    forged.body.push(0xff);
    server
        .expect("not UTF-8", &request(&forged), (401, "signature_mismatch"))
        .await;

    let empty = signed("");
    server.expect("empty", &request(&empty), unreadable).await;
    let no_length = format!("{}\r\n", head(&empty));
    server
        .expect("empty, no length", no_length.as_bytes(), unreadable)
        .await;
    let chunks = in_chunks(&head(&empty), b"", 1);
    server.expect("empty, in chunks", &chunks, unreadable).await;

    let filler = "x".repeat((1 << 20) - 60);
    let almost = signed(format!(
        "{{\"type\":\"a\",\"data\":{{\"filler\":\"{filler}\"}}}}"
    ));
    assert!(almost.body.len() <= 1 << 20);
    server.expect("1 MiB", &request(&almost), (200, "a")).await;
    let large = signed(vec![b' '; 2 << 20]);
    let large_chunks = in_chunks(&head(&large), &large.body, 65536);
    for request in [request(&large), large_chunks] {
        let (status, _) = server.send(&request).await;
        assert_eq!(status, 413, "{}", server.name);
    }
}

async fn connections(server: &Server) {
    let sent = signed(sample(&EventType::BatchExpired));
    let (accepted, mut forged) = (request(&sent), sent.clone());
    forged.body.push(b' ');
    let mut connection = server.connect().await;
    for _ in 0..3 {
        let (status, text) = connection.send(&accepted).await;
        assert_eq!((status, &*text), (200, "batch.expired"), "{}", server.name);
        let (status, _) = connection.send(&request(&forged)).await;
        assert_eq!(status, 401, "{}", server.name);
    }

    // They stall: in the head, in the body, and between two chunks.
    let half = accepted.len() - sent.body.len() / 2;
    let chunks = in_chunks(&head(&sent), &sent.body, 100);
    let mut stalled = Vec::new();
    for part in [
        &accepted[..60],
        &accepted[..half],
        &chunks[..chunks.len() - 5],
    ] {
        for _ in 0..20 {
            let mut connection = server.connect().await;
            connection.0.get_mut().write_all(part).await.unwrap();
            stalled.push(connection);
        }
    }
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        let (address, accepted) = (server.address, accepted.clone());
        clients.spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            Connection(BufReader::new(stream)).send(&accepted).await
        });
    }
    for (status, text) in clients.join_all().await {
        assert_eq!((status, &*text), (200, "batch.expired"), "{}", server.name);
    }
    // What has stalled and goes on is not lost either.
    let mut connection = stalled.swap_remove(25);
    let (status, _) = connection.send(&accepted[half..]).await;
    assert_eq!(status, 200, "{}", server.name);
}

#[tokio::test]
async fn axum() {
    conforms("axum", env!("CARGO_BIN_EXE_axum")).await;
}

#[tokio::test]
async fn actix() {
    conforms("actix", env!("CARGO_BIN_EXE_actix")).await;
}

#[tokio::test]
async fn hyper() {
    conforms("hyper", env!("CARGO_BIN_EXE_hyper")).await;
}

#[tokio::test]
async fn rocket() {
    conforms("rocket", env!("CARGO_BIN_EXE_rocket")).await;
}

#[tokio::test]
async fn warp() {
    conforms("warp", env!("CARGO_BIN_EXE_warp")).await;
}

#[tokio::test]
async fn poem() {
    conforms("poem", env!("CARGO_BIN_EXE_poem")).await;
}

#[tokio::test]
async fn tiny_http() {
    conforms("tiny_http", env!("CARGO_BIN_EXE_tiny_http")).await;
}

#[tokio::test]
async fn lambda() {
    conforms("lambda", env!("CARGO_BIN_EXE_lambda_local")).await;
}
