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
//! The exit status is 0 if it verifies, 1 if it does not, 2 if there is nothing to explain.

mod request;

use std::{error::Error as StdError, fs, io::Read as _, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use gemini_webhooks::{
    JobTokens, PerRequest, Secret, Verifier,
    diagnose::{Clues, Diagnosis, Finding},
    keys::KeySet,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use request::Request;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Explains why a saved webhook delivery does not verify
#[derive(Parser)]
#[command(name = "explain", version)]
struct Options {
    /// The saved request: HTTP, a curl command or JSON [default: the standard input]
    file: Option<PathBuf>,

    /// The signing secret that the receiver is configured with (whsec_...), or several
    // Parsed later on: clap would print what it can't parse.
    #[arg(
        long,
        value_name = "SECRET",
        env = "GEMINI_WEBHOOK_SECRET",
        hide_env_values = true
    )]
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

fn verifier(options: &Options) -> Result<Verifier, BoxError> {
    let mut verifier = Verifier::builder();
    for text in &options.secret {
        verifier = verifier.secret(Secret::parse(text)?);
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
        return Err("give the receiver's --secret, or --jwks, or both".into());
    }
    Ok(verifier.build()?)
}

fn requests(options: &Options) -> Result<Vec<Request>, BoxError> {
    let (name, read) = if let Some(file) = &options.file {
        (file.display().to_string(), fs::read(file))
    } else {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
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

fn main() -> ExitCode {
    let options = Options::parse();
    let prepared =
        verifier(&options).and_then(|verifier| Ok((verifier, former_secrets(&options)?)));
    let (verifier, former_secrets) = prepared.unwrap_or_else(|misuse| {
        Options::command()
            .error(ErrorKind::ValueValidation, misuse)
            .exit()
    });
    let requests = match requests(&options) {
        Ok(requests) => requests,
        Err(error) => {
            eprintln!("explain: {error}");
            return ExitCode::from(2);
        }
    };
    let several = requests.len() > 1;
    let mut status = ExitCode::SUCCESS;
    for (position, request) in requests.iter().enumerate() {
        let diagnosis = explain(&options, &verifier, &former_secrets, request);
        if several {
            println!("request {}:", position + 1);
        }
        println!("{diagnosis}");
        let clock_off = |finding: &Finding| matches!(finding, Finding::ClockOff { .. });
        if options.at.is_none()
            && request.arrived_at.is_none()
            && diagnosis.findings.iter().any(clock_off)
        {
            println!("  (it was looked at as of now: --at says when it arrived)");
        }
        if diagnosis.refusal.is_some() {
            status = ExitCode::FAILURE;
        }
    }
    status
}
