use super::*;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::io::AsyncWriteExt;

const ACCEPTED: &str = "the delivery is accepted\n- it is signed with secret 1\n";

/// What it prints, and its status.
async fn explain(arguments: &[&str], request: &[u8]) -> (String, Option<i32>) {
    let mut command = example("explain");
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended before it has read anything.
    let _ = stdin.write_all(request).await;
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it does not end").unwrap();
    let shown = [output.stdout, output.stderr].concat();
    (String::from_utf8(shown).unwrap(), output.status.code())
}

fn http(sent: &SignedDelivery) -> Vec<u8> {
    let mut request = format!(
        "POST /webhook HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: {}\r\n",
        sent.body.len()
    );
    for (name, value) in sent.headers() {
        request.extend([name, ": ", value, "\r\n"]);
    }
    [request.as_bytes(), b"\r\n", &sent.body].concat()
}

fn curl(sent: &SignedDelivery) -> Vec<u8> {
    let mut request = "curl -i -X POST http://localhost:1/webhook \\\n".to_owned();
    for (name, value) in sent.headers() {
        request.extend(["  -H '", name, ": ", value, "' \\\n"]);
    }
    let body = str::from_utf8(&sent.body).unwrap();
    request.extend(["  --data-raw '", body, "'\n"]);
    request.into_bytes()
}

fn archive(sent: &SignedDelivery) -> Vec<u8> {
    let headers = sent.headers();
    let headers = headers.map(|(name, value)| json!({"name": name, "value": value}));
    let body = str::from_utf8(&sent.body).unwrap();
    let now = OffsetDateTime::now_utc();
    let now = now.format(&time::format_description::well_known::Rfc3339);
    let entries = json!([
        {"request": {"method": "GET", "headers": []}},
        {
            "startedDateTime": now.unwrap(),
            "request": {"method": "POST", "headers": headers, "postData": {"text": body}},
        },
    ]);
    json!({"log": {"entries": entries}}).to_string().into()
}

fn lambda(sent: &SignedDelivery) -> Vec<u8> {
    let headers = sent.headers().map(|(name, value)| (name, json!([value])));
    let headers = serde_json::Map::from_iter(headers.map(|(name, value)| (name.into(), value)));
    let body = BASE64_STANDARD.encode(&sent.body);
    json!({"multiValueHeaders": headers, "body": body, "isBase64Encoded": true})
        .to_string()
        .into()
}

#[tokio::test]
async fn explain_reads_each_form_of_a_request() {
    let good = delivery("batch.failed");
    let mut changed = good.clone();
    changed.body = serde_json::to_vec_pretty(&json!({"type": "a", "data": 1})).unwrap();
    let compact = Signer::v1(&Secret::parse(SECRET).unwrap()).sign(
        "msg_1",
        OffsetDateTime::now_utc(),
        *br#"{"data":1,"type":"a"}"#,
    );
    changed.signature = compact.signature;
    for (name, write) in [
        ("http", http as fn(&SignedDelivery) -> Vec<u8>),
        ("curl", curl),
        ("archive", archive),
        ("lambda", lambda),
    ] {
        let (shown, status) = explain(&["--secret", SECRET], &write(&good)).await;
        assert_eq!((&*shown, status), (ACCEPTED, Some(0)), "{name}");
        let (shown, status) = explain(&["--secret", SECRET], &write(&changed)).await;
        assert!(shown.contains("it had no white space"), "{name}: {shown}");
        assert_eq!(status, Some(1), "{name}");
        let (shown, status) = explain(&["--secret", OTHER], &write(&good)).await;
        assert!(shown.contains("none of the usual slips"), "{name}: {shown}");
        assert_eq!(status, Some(1), "{name}");
    }
    // An editor has added a line break, and `Content-Length` shows it.
    let saved = [http(&good), b"\n".to_vec()].concat();
    let (shown, _) = explain(&["--secret", SECRET], &saved).await;
    assert_eq!(shown, ACCEPTED);
}

#[tokio::test]
async fn explain_takes_the_time_of_arrival() {
    let mut sent = delivery("batch.failed");
    let arrived = OffsetDateTime::from_unix_timestamp(1_780_000_000).unwrap();
    sent = Signer::v1(&Secret::parse(SECRET).unwrap()).sign("msg_1", arrived, sent.body);
    let (shown, status) = explain(&["--secret", SECRET], &http(&sent)).await;
    assert!(
        shown.contains("the clock is off") && shown.contains("--at"),
        "{shown}"
    );
    assert_eq!(status, Some(1));
    let at = ["--secret", SECRET, "--at", "2026-05-28T20:27:00Z"];
    let (shown, status) = explain(&at, &http(&sent)).await;
    assert_eq!((&*shown, status), (ACCEPTED, Some(0)));
    let at = ["--secret", SECRET, "--at", "2026-05-30T20:29:52Z"];
    let (shown, _) = explain(&at, &http(&sent)).await;
    assert!(shown.contains("2 days 3 min behind"), "{shown}");
    assert!(!shown.contains("--at"), "{shown}");
}

#[tokio::test]
async fn explain_knows_former_secrets_and_keys() {
    let sent = delivery("batch.failed");
    let arguments = ["--secret", OTHER, "--former-secret", SECRET];
    let (shown, _) = explain(&arguments, &http(&sent)).await;
    assert!(shown.contains("signed with former secret 1"), "{shown}");
    let arguments = ["--secret", OTHER, "--secret", SECRET];
    let (shown, _) = explain(&arguments, &http(&sent)).await;
    assert!(shown.ends_with("signed with secret 2\n"), "{shown}");

    let google = SigningKeys::generate();
    let sent = Signer::v1a(&google).sign("msg_1", OffsetDateTime::now_utc(), *b"{}");
    let (shown, _) = explain(&["--secret", OTHER], &http(&sent)).await;
    assert!(shown.contains("Google's key set"), "{shown}");
    let file = JwksFile::new("explain");
    file.publish(&google);
    let (shown, status) = explain(&["--jwks", file.path()], &http(&sent)).await;
    assert!(
        shown.starts_with("the delivery is accepted\n- it is signed with"),
        "{shown}"
    );
    assert_eq!(status, Some(0));
    let ours = ["--jwks", file.path(), "--job-token-key", JOB_KEY];
    let (shown, status) = explain(&ours, &http(&sent)).await;
    assert!(
        shown.contains("nothing proves that the job is ours"),
        "{shown}"
    );
    assert_eq!(status, Some(1));
}

#[tokio::test]
async fn explain_says_what_it_can_not_read() {
    let quoted = format!("\"{SECRET}\"");
    let secret = ["--secret", SECRET];
    for (arguments, request, expected) in [
        (
            &[] as &[&str],
            "a: b\n\n{}",
            "give the receiver's --secret (or GEMINI_WEBHOOK_SECRETS)",
        ),
        (
            &["--secret", SECRET, "--secret", &quoted],
            "a: b\n\n{}",
            "secret 2: the signing secret can't be used: it has quotation marks",
        ),
        (
            &["--secret", SECRET, "/nowhere"],
            "",
            "/nowhere: No such file",
        ),
        (&["--secret", SECRET, "--at", "noon"], "", "--at"),
        (&secret, "", "the standard input: it is empty"),
        (&secret, "a: b\n", "no empty line"),
        (&secret, "hello\n\n", "this is no header"),
        (&secret, "curl -H", "-H has no value"),
        (&secret, "curl -H 'a: b", "not closed"),
        (&secret, "curl --data-raw $'a'", "--data-binary @"),
        (&secret, "{", "EOF"),
        (&secret, "{}", "no request"),
        (&secret, "{\"headers\":7}", "neither an object nor a list"),
    ] {
        let (shown, status) = explain(arguments, request.as_bytes()).await;
        assert!(shown.contains(expected), "{request:?}: {shown}");
        assert_eq!(status, Some(2), "{request:?}: {shown}");
        assert!(!shown.contains("C2FV"), "{shown}");
    }
}

#[tokio::test]
async fn explain_documents_its_options_and_exit_codes() {
    let (shown, status) = explain(&["--help"], b"").await;
    for word in [
        "--secret",
        "--at",
        "Exit status:",
        "0  each",
        "1  a request",
        "2  there is",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert_eq!(status, Some(0));
    let (shown, status) = explain(&["--nonsense"], b"").await;
    assert_eq!(status, Some(2), "{shown}");
}

#[tokio::test]
async fn explain_reads_headers_under_other_names() {
    let sent = delivery("batch.failed");
    let headers = sent
        .headers()
        .map(|(name, value)| (name.replace('-', "_"), json!(value)));
    let headers = serde_json::Map::from_iter(headers);
    let body = str::from_utf8(&sent.body).unwrap();
    let requests = json!([{"headers": {"a": "b"}}, {"headers": headers, "body": body}]);
    let (shown, status) = explain(&["--secret", SECRET], requests.to_string().as_bytes()).await;
    assert!(shown.contains("named with underscores"), "{shown}");
    assert_eq!(status, Some(1));
}

#[tokio::test]
async fn explain_does_not_mind_a_reader_that_has_gone() {
    let mut command = example("explain");
    command.args(["--secret", SECRET]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(&http(&delivery("batch.failed")))
        .await
        .unwrap();
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it does not end").unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}
