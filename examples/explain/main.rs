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
use gemini_webhooks::{Diagnosis, Finding, JobTokens, KeySet, PerRequest, Secret, Verifier};
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
    for text in &options.former_secret {
        verifier = verifier.former_secret(Secret::parse(text)?);
    }
    if let Some(file) = &options.jwks {
        let document = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut per_request = PerRequest::new(KeySet::from_json(&document)?);
        if let Some(key) = &options.job_token_key {
            per_request = per_request.job_tokens(JobTokens::parse(key)?);
        }
        if let Some(audience) = &options.audience {
            per_request = per_request.audience(audience);
        }
        if options.job_token_key.is_none() && options.audience.is_none() {
            per_request = per_request.accept_any_sender();
        }
        verifier = verifier.per_request(per_request);
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

fn explain(verifier: &Verifier, request: &Request, at: Option<OffsetDateTime>) -> Diagnosis {
    let headers = request.headers.iter().map(|(name, value)| (name, value));
    match at.or(request.arrived_at) {
        Some(arrived_at) => verifier.diagnose_at(headers, &request.body, arrived_at),
        None => verifier.diagnose(headers, &request.body),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let verifier = verifier(&options).unwrap_or_else(|misuse| {
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
        let diagnosis = explain(&verifier, request, options.at);
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
