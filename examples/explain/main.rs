//! Explains why a saved delivery does not verify.
//!
//! `cargo run --example explain -- --secret whsec_... request.txt`
//!
//! The file (or, without one, the standard input) holds the request in one of these forms:
//! - as in HTTP: lines of `name: value`, an empty line, and the body, with or without a request
//!   line in front
//! - a `curl` command
//! - JSON: an HTTP archive (HAR), an event of an AWS Lambda function, or any object with `headers`
//!   and a `body`
//!
//! Without `--secret`, the secrets are those of `GEMINI_WEBHOOK_SECRETS` (several, separated by commas
//! or white space) and of the file that `GEMINI_WEBHOOK_SECRETS_FILE` names, as in the receiver.
//!
//! It prints the refusal, a line for each finding, and which secret or key signed, by its position or id.
//!
//! | exit status | when |
//! |---|---|
//! | 0 | each request verifies |
//! | 1 | a request does not verify, and the reason is printed |
//! | 2 | there is nothing to explain: wrong usage, a secret that can't be used, or no request |

#[path = "../support/out.rs"]
mod out;
mod request;
#[path = "../support/secrets.rs"]
mod secrets;

use std::{
    error::Error as StdError,
    fmt::Write as _,
    fs,
    io::{self, Read as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use gemini_webhooks::{
    JobTokens, PerRequest, Secret, Verifier,
    diagnose::{Clues, Diagnosis, Finding},
    keys::KeySet,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use out::{note, say};
use request::Request;

type BoxError = Box<dyn StdError + Send + Sync>;

const EXIT_STATUS: &str = "\
Exit status:
  0  each request verifies
  1  a request does not verify, and the reason is printed
  2  there is nothing to explain: wrong usage, a secret that can't be used, or no request

A request that was saved a while ago is outside the replay window: give --at.";

/// Explains why a saved webhook delivery does not verify
#[expect(clippy::doc_markdown, reason = "clap shows it as it is")]
#[derive(Parser)]
#[command(name = "explain", version, after_help = EXIT_STATUS)]
struct Options {
    /// The saved request: HTTP, a curl command or JSON [default: the standard input]
    file: Option<PathBuf>,

    /// The signing secret that the receiver is configured with (whsec_...), or several [default:
    /// those in GEMINI_WEBHOOK_SECRETS and GEMINI_WEBHOOK_SECRETS_FILE]
    // Parsed later on: clap would print what it can't parse.
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,

    /// A secret of before a rotation, to be recognized
    #[arg(long, value_name = "SECRET")]
    former_secret: Vec<String>,

    /// Google's key set, for v1a and JWTs
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,

    /// The key for job tokens; without one, and without an audience, any sender's job will do
    #[arg(
        long,
        value_name = "KEY",
        env = "GEMINI_WEBHOOK_JOB_KEY",
        hide_env_values = true
    )]
    job_token_key: Option<String>,

    /// The audience that a JWT must have
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,

    /// When the request arrived, such as 2026-01-22T12:00:00Z [default: what a HAR says, or now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<OffsetDateTime>,
}

fn time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())
}

/// Takes the secrets of the environment if there are none in the arguments.
fn read_environment(options: &mut Options) -> Result<(), BoxError> {
    if options.secret.is_empty() {
        for (place, text) in secrets::from_env()? {
            Secret::parse(&text).map_err(|error| format!("{place}: {error}"))?;
            options.secret.push(text);
        }
    }
    Ok(())
}

fn verifier(options: &Options) -> Result<Verifier, BoxError> {
    let mut verifier = Verifier::builder();
    for (text, position) in options.secret.iter().zip(1..) {
        let secret = Secret::parse(text).map_err(|error| format!("secret {position}: {error}"))?;
        verifier = verifier.secret(secret);
    }
    if let Some(file) = &options.jwks {
        let document = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let keys = KeySet::from_json(&document)?;
        let tokens = options.job_token_key.as_deref().map(JobTokens::parse);
        verifier = verifier.per_request(match (tokens.transpose()?, &options.audience) {
            (Some(tokens), None) => PerRequest::with_job_tokens(keys, tokens),
            (None, Some(audience)) => PerRequest::with_audience(keys, audience),
            (Some(tokens), Some(audience)) => {
                PerRequest::with_job_tokens(keys, tokens).audience(audience)
            }
            (None, None) => PerRequest::any_sender(keys),
        });
    }
    if options.secret.is_empty() && options.jwks.is_none() {
        return Err(
            "give the receiver's --secret (or GEMINI_WEBHOOK_SECRETS), or --jwks, or both".into(),
        );
    }
    Ok(verifier.build()?)
}

fn requests(options: &Options) -> Result<Vec<Request>, BoxError> {
    let (name, read) = if let Some(file) = &options.file {
        (file.display().to_string(), fs::read(file))
    } else {
        let mut bytes = Vec::new();
        let read = io::stdin().read_to_end(&mut bytes);
        ("the standard input".to_owned(), read.map(|_| bytes))
    };
    let requests = read
        .map_err(BoxError::from)
        .and_then(|bytes| request::parse(&bytes));
    requests.map_err(|error| format!("{name}: {error}").into())
}

/// The secrets of before a rotation.
fn former_secrets(options: &Options) -> Result<Vec<Secret>, BoxError> {
    let secrets = options.former_secret.iter();
    let secrets = secrets.map(|text| Ok(Secret::parse(text)?));
    secrets.collect()
}

fn explain(
    options: &Options,
    verifier: &Verifier,
    former_secrets: &[Secret],
    request: &Request,
) -> Diagnosis {
    let texts = options.secret.iter();
    let clues = texts.fold(Clues::default(), |clues, text| clues.secret_text(text));
    let former = former_secrets.iter().cloned();
    let mut clues = former.fold(clues, Clues::former_secret);
    if let Some(arrived_at) = options.at.or(request.arrived_at) {
        clues = clues.at(arrived_at);
    }
    let headers = request.headers.iter().map(|(name, value)| (name, value));
    verifier.diagnose_with(&clues, headers, &request.body)
}

/// Returns what to print, and true if each request verifies.
fn explain_all(
    options: &Options,
    verifier: &Verifier,
    former_secrets: &[Secret],
    requests: &[Request],
) -> Result<(String, bool), BoxError> {
    let mut text = String::new();
    let mut all_verify = true;
    for (request, position) in requests.iter().zip(1..) {
        let diagnosis = explain(options, verifier, former_secrets, request);
        if requests.len() > 1 {
            writeln!(text, "request {position}:")?;
        }
        writeln!(text, "{diagnosis}")?;
        let clock_off = |finding: &Finding| matches!(finding, Finding::ClockOff { .. });
        if options.at.is_none()
            && request.arrived_at.is_none()
            && diagnosis.findings.iter().any(clock_off)
        {
            writeln!(
                text,
                "  (it was looked at as of now: --at says when it arrived)"
            )?;
        }
        all_verify &= diagnosis.refusal.is_none();
    }
    Ok((text, all_verify))
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    let prepared = read_environment(&mut options)
        .and_then(|()| Ok((verifier(&options)?, former_secrets(&options)?)));
    let (verifier, former_secrets) = prepared.unwrap_or_else(|misuse| {
        Options::command()
            .error(ErrorKind::ValueValidation, misuse)
            .exit()
    });
    let explained = requests(&options).and_then(|requests| {
        let explained = explain_all(&options, &verifier, &former_secrets, &requests)?;
        say(explained.0.trim_end());
        Ok(explained)
    });
    match explained {
        Ok((_, true)) => ExitCode::SUCCESS,
        Ok((_, false)) => ExitCode::FAILURE,
        Err(error) => {
            note(format_args!("explain: {error}"));
            ExitCode::from(2)
        }
    }
}
