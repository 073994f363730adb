//! What all programs have in common: `--help`, closed pipes, and the secrets of the environment.

use super::*;

use super::register::{API_KEY, StandIn};

/// An end of a pipe whose other end is closed.
fn closed() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

/// Runs a program with a closed standard output.
async fn unread(command: &mut Command) -> (Option<i32>, String) {
    command.stdout(closed()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it does not end").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code(), said)
}

#[tokio::test]
async fn each_program_explains_itself() {
    for (name, expected) in [
        ("cycle", "cargo run --example cycle"),
        ("dead_letters", "The exit status is 0"),
        ("exactly_once", "The exit status is 0"),
        ("explain", "Exit status:"),
        ("forward", "REDIS_URL"),
        ("quickstart", "The exit status is 0"),
        ("receiver", "GEMINI_WEBHOOK_SECRETS_FILE"),
        ("register", "The exit status is 0"),
        ("sender", "The exit status is 0"),
    ] {
        let help = output(example(name).arg("--help")).await;
        let shown = String::from_utf8(help.stdout).unwrap();
        assert_eq!(help.status.code(), Some(0), "{name}");
        assert!(shown.contains(expected), "{name}: {shown}");
        assert!(!shown.contains("//!"), "{name}: {shown}");

        let misused = output(example(name).args(["--frobnicate", SECRET])).await;
        assert_eq!(misused.status.code(), Some(2), "{name}");
        let said = String::from_utf8(misused.stderr).unwrap();
        assert!(!said.is_empty() && !said.contains("C2FV"), "{name}: {said}");
        assert!(misused.stdout.is_empty(), "{name}");
        let (status, _) = unread(example(name).arg("--help")).await;
        assert_eq!(status, Some(0), "{name}");
    }
}

#[tokio::test]
async fn a_program_ends_as_it_would_when_nobody_reads() {
    for name in ["quickstart", "cycle", "exactly_once"] {
        let (status, said) = unread(&mut example(name)).await;
        assert_eq!(status, Some(0), "{name}: {said}");
    }
    let request = std::env::temp_dir().join(format!("gemini-webhooks-{}", std::process::id()));
    std::fs::write(&request, "webhook-id: msg_1\n\n{}").unwrap();
    let mut explain = example("explain");
    let (status, said) = unread(explain.args(["--secret", SECRET]).arg(&request)).await;
    std::fs::remove_file(&request).unwrap();
    assert_eq!(status, Some(1), "{said}");
    let arguments = [
        "--secret",
        SECRET,
        "--to",
        "http://127.0.0.1:1/",
        "--max-attempts",
        "1",
    ];
    let (status, said) = unread(example("sender").args(arguments)).await;
    assert_eq!(status, Some(1), "{said}");
}

#[tokio::test]
async fn a_secret_that_nobody_reads_is_a_failure() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let register = |arguments: &[&str]| {
        let mut command = example("register");
        command.args(["--base-url", &google.url()]).args(arguments);
        command.env("GEMINI_API_KEY", API_KEY);
        command
    };
    let (status, said) = unread(&mut register(&["create", "https://example.com"])).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("the secret is lost") && said.contains("rotate it"),
        "{said}"
    );
    let (status, said) = unread(&mut register(&["rotate", "wh_0001"])).await;
    assert_eq!(status, Some(1), "{said}");
    let (status, said) = unread(&mut register(&["list"])).await;
    assert_eq!(status, Some(0), "{said}");
    // Nor does it matter who reads the standard error.
    let mut delete = register(&["delete", "wh_0001"]);
    let status = delete.stderr(closed()).status();
    assert!(status.await.unwrap().success());
}

/// A file of secrets, which goes with this.
struct SecretsFile(std::path::PathBuf);

impl SecretsFile {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("gemini-webhooks-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SecretsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn secrets_come_from_each_variable() {
    let file = SecretsFile::new(
        "secrets",
        &format!(
            "\u{feff}# before the rotation\r\n  {OTHER}\t# until Thursday\r\n\r\n{SECRET}\r\n"
        ),
    );
    let several = format!("{OTHER}\n\t{SECRET},");
    for variables in [
        vec![("GEMINI_WEBHOOK_SECRETS", SECRET)],
        vec![("GEMINI_WEBHOOK_SECRETS", several.as_str())],
        vec![("GEMINI_WEBHOOK_SECRET", SECRET)],
        vec![
            ("GEMINI_WEBHOOK_SECRETS", ""),
            ("GEMINI_WEBHOOK_SECRET", SECRET),
        ],
        vec![("GEMINI_WEBHOOK_SECRETS_FILE", file.path())],
        vec![
            ("GEMINI_WEBHOOK_SECRETS", OTHER),
            ("GEMINI_WEBHOOK_SECRETS_FILE", file.path()),
        ],
    ] {
        let receiver = Receiver::start(&variables).await;
        let sent = delivery("batch.failed");
        let (status, answer) = receiver.send(receiver.request(&sent)).await;
        assert_eq!(status, 200, "{variables:?}: {answer}");

        // The sender signs with all of them, so that either end may have rotated.
        let to = format!("http://{}/webhook", receiver.address);
        let mut sender = example("sender");
        sender.args(["--to", &to]).envs(variables.iter().copied());
        let sent = output(&mut sender).await;
        let shown = String::from_utf8(sent.stdout).unwrap();
        assert!(shown.contains("attempt 1: 200"), "{variables:?}: {shown}");

        let mut explain = example("explain");
        explain.arg("/nowhere");
        let explained = output(explain.envs(variables.iter().copied())).await;
        let said = String::from_utf8(explained.stderr).unwrap();
        assert!(said.contains("/nowhere: No such file"), "{said}");
    }
}

#[tokio::test]
async fn a_bad_secret_is_named_by_its_place() {
    let file = SecretsFile::new("bad", &format!("# one\n{SECRET}\n\"{SECRET}\"\n"));
    let empty = SecretsFile::new("empty", "# none\n\n");
    let quoted = format!("{SECRET} '{SECRET}'");
    for (variable, expected) in [
        (
            ("GEMINI_WEBHOOK_SECRETS", &*quoted),
            "GEMINI_WEBHOOK_SECRETS, part 2: ",
        ),
        (
            ("GEMINI_WEBHOOK_SECRET", "whsec_short"),
            "GEMINI_WEBHOOK_SECRET, part 1: ",
        ),
        (("GEMINI_WEBHOOK_SECRETS", " , "), "GEMINI_WEBHOOK_SECRET"),
        (
            ("GEMINI_WEBHOOK_SECRETS_FILE", "/nowhere/secrets"),
            "GEMINI_WEBHOOK_SECRETS_FILE: /nowhere/secrets: No such file",
        ),
        (
            ("GEMINI_WEBHOOK_SECRETS_FILE", file.path()),
            "-bad, line 3: ",
        ),
        (
            ("GEMINI_WEBHOOK_SECRETS_FILE", empty.path()),
            "-empty has no secret",
        ),
    ] {
        for name in ["receiver", "sender", "explain"] {
            let failed = output(example(name).envs([variable])).await;
            let said = String::from_utf8(failed.stderr).unwrap();
            assert_eq!(failed.status.code(), Some(2), "{name}: {said}");
            assert!(said.contains(expected), "{name}: {said}");
            assert!(!said.contains("C2FV"), "{name}: {said}");
        }
    }
}
