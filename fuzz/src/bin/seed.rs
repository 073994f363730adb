//! Writes what the targets begin with, from the vectors of the tests, to `corpus/TARGET/`.

use std::{fs, io, path::Path};

use serde_json::Value;

fn write(target: &str, name: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), content)
}

/// Job tokens at each place of a URI and of an event, as `targets/uri.rs` puts them in.
fn uris() -> io::Result<()> {
    const QUERIES: [&str; 10] = [
        "",
        "@4=@0",
        "a=b&@4=@1&c=d",
        "@4=@0&@4=@0",
        "@4=@0&@4=@1",
        "@4=@2",
        "@4=@3",
        "@4=",
        "a#@4=@0",
        "%40gemini%5Fwebhooks_job=@0&tenant=7",
    ];
    const METADATA: [&str; 6] = [
        r#"{"@4":"@0"}"#,
        r#"{"@4":"@5","a":1}"#,
        r#"{"@4":"@1"}"#,
        r#"{"@4":"@2"}"#,
        r#"{"@4":"@3"}"#,
        r#"{"@4":7}"#,
    ];
    const EVENTS: [&str; 7] = [
        r#"{"type":"ping","user_metadata":$}"#,
        r#"{"type":"batch.failed","data":{"id":"b","userMetadata":$}}"#,
        r#"{"type":"a","interaction":{"user_metadata":$}}"#,
        r#"{"type":"a","webhook_config":{"user_metadata":$}}"#,
        r#"{"type":"a","data":{"webhookConfig":{"user_metadata":$}}}"#,
        r#"{"type":"a","interaction":{"webhook_config":{"userMetadata":$}}}"#,
        r#"{"type":"a","user_metadata":$,"data":{"user_metadata":{"@4":"@0"}}}"#,
    ];
    for (number, query) in QUERIES.iter().enumerate() {
        for body in ["", "{}", r#"{"type":"ping"}"#] {
            let name = format!("query-{number}-{}", body.len());
            write("uri", &name, format!("{query}\n{body}"))?;
        }
    }
    for (place, event) in EVENTS.iter().enumerate() {
        for (number, metadata) in METADATA.iter().enumerate() {
            let event = event.replace('$', metadata);
            for query in ["", "@4=@0"] {
                let name = format!("event-{place}-{number}-{}", query.len());
                write("uri", &name, format!("{query}\n{event}"))?;
            }
        }
    }
    Ok(())
}

/// Answers of the service, as `targets/api.rs` reads them.
fn answers() -> io::Result<()> {
    const WEBHOOK: &str = r#"{"id":"wh_1","name":"webhooks/wh_1","uri":"https://example.com/a?b=c","subscribed_events":["batch.succeeded",7],"state":"ENABLED","create_time":"2026-05-04T00:00:00Z","updateTime":1,"signing_secrets":[{"truncated_secret":"whsec_...3frh","expire_time":"2026-05-04T00:00:00Z"}],"new_signing_secret":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}"#;
    const REFUSAL: &str = r#"!{"error":{"code":400,"message":"the API key AIza is invalid","status":"INVALID_ARGUMENT","details":[{"retryDelay":"3s"}]}}"#;
    write("api", "webhook", WEBHOOK)?;
    write("api", "refused-webhook", format!("!{WEBHOOK}"))?;
    write(
        "api",
        "page",
        format!(r#"{{"webhooks":[{WEBHOOK},7],"nextPageToken":"a"}}"#),
    )?;
    write(
        "api",
        "rotated",
        r#"{"webhook":{"secret":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}}"#,
    )?;
    write("api", "refusal", REFUSAL)?;
    write("api", "refusals", format!("![{}]", &REFUSAL[1..]))
}

fn main() -> io::Result<()> {
    let [v1, v1a, jwt] = [
        include_str!("../../../tests/vectors/v1.json"),
        include_str!("../../../tests/vectors/v1a.json"),
        include_str!("../../../tests/vectors/jwt.json"),
    ]
    .map(|vectors| serde_json::from_str::<Value>(vectors).unwrap());
    write("jwks", "v1a", v1a["jwks"].to_string())?;
    write("jwks", "jwt", jwt["jwks"].to_string())?;
    uris()?;
    answers()?;
    for (scheme, cases) in [("v1", &v1), ("v1a", &v1a["cases"]), ("jwt", &jwt["cases"])] {
        for (number, case) in cases.as_array().unwrap().iter().enumerate() {
            let name = format!("{scheme}-{number}");
            let text = |member: &str| case[member].as_str().unwrap_or_default();
            let [id, timestamp, signature, body] =
                ["id", "timestamp", "signature", "body"].map(text);
            let headers = format!(
                "webhook-id: {id}\nwebhook-timestamp: {timestamp}\nwebhook-signature: {signature}\n"
            );
            write("headers", &name, headers)?;
            write("signature", &name, signature)?;
            write("event", &name, body)?;
            write(
                "secret",
                &name,
                case["secrets"][0].as_str().unwrap_or(signature),
            )?;
            if scheme == "jwt" {
                write("jwt", &name, format!("{signature}\n{body}"))?;
            } else {
                let whole = format!("{id}\n{timestamp}\n{signature}\n{body}");
                write("differential", &name, whole)?;
                for (tag, entry) in [
                    ("a", "v1,@0"),
                    ("b", "v1,AAAA v1,@1 v9,AAAA"),
                    ("c", "v1a,@2"),
                ] {
                    let signed = format!("{id}\n{timestamp}\n{entry}\n{body}");
                    write("differential", &format!("{name}{tag}"), signed)?;
                }
            }
        }
    }
    Ok(())
}
