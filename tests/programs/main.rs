//! The examples, run as the processes that they are.

mod explain;
mod forward;
mod inbox;
mod operations;
mod receiver;
mod register;
mod sender;
#[path = "../stores/servers.rs"]
#[allow(dead_code, reason = "the tests of the stores use more of it")]
mod servers;
mod usage;

use std::{
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use gemini_webhooks::{
    EventType, JobTokens, Secret,
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Long enough for a busy machine, so that only a real stall reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is not built: run `cargo test` without `--test`",
        path.display()
    );
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What a program prints that ends by itself.
async fn output(command: &mut Command) -> Output {
    let output = timeout(PATIENCE, command.output()).await;
    output.expect("it does not end").unwrap()
}

async fn exits(child: &mut Child) -> ExitStatus {
    timeout(PATIENCE, child.wait())
        .await
        .expect("it does not end")
        .unwrap()
}
struct Receiver {
    child: Child,
    address: String,
    lines: Lines<BufReader<ChildStdout>>,
    client: reqwest::Client,
}

impl Receiver {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = example("receiver");
        command.envs(variables.iter().copied());
        Self::spawn(command.env("BIND", "127.0.0.1:0")).await
    }

    /// Another program that says where it listens.
    async fn spawn(command: &mut Command) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let address = line.strip_prefix("listening on ").expect(&line).to_owned();
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            child,
            address,
            lines,
            client,
        }
    }

    fn request(&self, delivery: &SignedDelivery) -> reqwest::RequestBuilder {
        self.request_to("/webhook", delivery)
    }

    fn request_to(&self, path: &str, delivery: &SignedDelivery) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.post(url).body(delivery.body.clone());
        delivery
            .headers()
            .into_iter()
            .fold(request, |request, (name, value)| {
                request.header(name, value)
            })
    }

    async fn readiness(&self) -> u16 {
        self.get("/readyz").await.0
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.address);
        self.send(self.client.get(url)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}")),
        )
    }

    async fn line(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

fn delivery(event_type: &str) -> SignedDelivery {
    let secret = Secret::parse(SECRET).unwrap();
    Signer::v1(&secret).sign(
        "msg_1",
        OffsetDateTime::now_utc(),
        sample(&event_type.into()),
    )
}

const JOB_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const AUDIENCE: &str = "https://example.com/webhook";

/// A key set in a file of its own, which goes with this.
struct JwksFile(std::path::PathBuf);

impl JwksFile {
    fn new(name: &str) -> Self {
        let name = format!("gemini-webhooks-{}-{name}.json", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Written aside and moved: the receiver may read it at any time.
    fn publish(&self, keys: &SigningKeys) {
        let aside = self.0.with_extension("new");
        std::fs::write(&aside, keys.jwks()).unwrap();
        std::fs::rename(aside, &self.0).unwrap();
    }
}

impl Drop for JwksFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
#[tokio::test]
async fn quickstart_shows_what_is_accepted_and_what_is_refused() {
    let output = output(&mut example("quickstart")).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    for event_type in EventType::KNOWN {
        assert!(
            shown.contains(event_type.as_str()),
            "{event_type} is not shown:\n{shown}"
        );
    }
    for code in [
        "signature_mismatch",
        "timestamp_too_old",
        "missing_header",
        "unknown_origin",
        "body_not_bound",
        "all as expected",
    ] {
        assert!(shown.contains(code), "{code} is not shown:\n{shown}");
    }
}

#[tokio::test]
async fn blocking_refresh_drives_the_state_machine_without_a_runtime() {
    let output = output(&mut example("blocking_refresh")).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(
        shown.contains("no key set has been loaded yet") && shown.contains("was signed with"),
        "{shown}"
    );
}
