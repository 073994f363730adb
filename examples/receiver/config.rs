//! The settings, from the environment.

use std::{env, net::SocketAddr, sync::Arc};

use gemini_webhooks::{
    ConfigError, Inbox, JobTokens, PerRequest, Receiver, Secret, SharedVerifier, Verifier,
    keys::{JwksEndpoint, RefreshedKeys},
    store::IdempotencyStore,
};

use crate::{
    secrets,
    store::{Store, StoreFault},
};

pub(crate) struct Config {
    pub(crate) bind: SocketAddr,
    pub(crate) mode: Mode,
    pub(crate) verifier: SharedVerifier,
    pub(crate) store: Arc<dyn IdempotencyStore>,
    pub(crate) per_request: Option<PerRequest>,
    pub(crate) keys: Option<Arc<RefreshedKeys>>,
}

#[derive(Clone)]
pub(crate) enum Mode {
    Handle(Receiver),
    Inbox(Inbox),
}

impl Config {
    pub(crate) fn from_env() -> Result<Self, String> {
        let bind = variable("BIND")?.unwrap_or_else(|| "127.0.0.1:8787".into());
        let bind = bind.parse().map_err(|_| {
            format!("BIND is not an address and a port such as 127.0.0.1:8787: {bind:?}")
        })?;
        let keys = variable("GEMINI_WEBHOOK_JWKS")?
            .map(|source| key_source(&source).map(Arc::new))
            .transpose()?;
        let per_request = keys.as_ref().map(per_request).transpose()?;
        if keys.is_none() {
            for name in PROOFS {
                if variable(name)?.is_some() {
                    return Err(format!("{name} is set, but GEMINI_WEBHOOK_JWKS is not"));
                }
            }
        }
        let verifier = SharedVerifier::from(verifier(per_request.as_ref())?);
        let (mode, store) = mode(&verifier)?;
        Ok(Self {
            bind,
            mode,
            verifier,
            store,
            per_request,
            keys,
        })
    }
}

/// Reads the secrets, and builds a verifier with them.
pub(crate) fn verifier(per_request: Option<&PerRequest>) -> Result<Verifier, String> {
    let mut builder = Verifier::builder();
    for (place, text) in secrets::from_env()? {
        let secret = Secret::parse(&text).map_err(|error| format!("{place}: {error}"))?;
        builder = builder.secret(secret);
    }
    if let Some(per_request) = per_request {
        builder = builder.per_request(per_request.clone());
    }
    builder.build().map_err(|error| match error {
        ConfigError::NothingToVerifyWith => {
            "neither GEMINI_WEBHOOK_SECRETS nor GEMINI_WEBHOOK_JWKS is set (and neither are \
             GEMINI_WEBHOOK_SECRET and GEMINI_WEBHOOK_SECRETS_FILE)"
                .to_owned()
        }
        ConfigError::TooManySecrets { .. } => format!("GEMINI_WEBHOOK_SECRETS: {error}"),
        error => error.to_string(),
    })
}

fn mode(verifier: &SharedVerifier) -> Result<(Mode, Arc<dyn IdempotencyStore>), String> {
    let name = "GEMINI_WEBHOOK_STORE";
    let setting = match (variable(name)?, variable("MODE")?.as_deref()) {
        (Some(setting), _) => setting,
        (None, Some("inbox")) => {
            return Err(format!(
                "MODE=inbox needs {name}: sqlite:PATH, postgres://.. or, to keep nothing, memory"
            ));
        }
        (None, _) => "memory".into(),
    };
    let store = Store::open(&setting).map_err(|fault| match fault {
        StoreFault::Form => format!("{name} is {fault}"),
        StoreFault::Store(_) => format!("{name}: {fault}"),
    })?;
    let verifier = verifier.clone();
    match (variable("MODE")?.as_deref(), store) {
        (None | Some("handle"), Store::Inbox(store)) => handle(verifier, store),
        (None | Some("handle"), Store::Keys(store)) => handle(verifier, store),
        (Some("inbox"), Store::Inbox(store)) => {
            let inbox = Inbox::builder(verifier, Arc::clone(&store)).build();
            let inbox = inbox.map_err(|error| error.to_string())?;
            Ok((Mode::Inbox(inbox), store))
        }
        (Some("inbox"), Store::Keys(_)) => Err(format!(
            "MODE=inbox stores deliveries, and Redis does not: {name} must be memory, sqlite:PATH \
             or postgres://.."
        )),
        (Some(other), _) => Err(format!("MODE is {other:?}, expected handle or inbox")),
    }
}

fn handle(
    verifier: SharedVerifier,
    store: Arc<dyn IdempotencyStore>,
) -> Result<(Mode, Arc<dyn IdempotencyStore>), String> {
    let receiver = Receiver::builder(verifier, Arc::clone(&store)).build();
    let receiver = receiver.map_err(|error| error.to_string())?;
    Ok((Mode::Handle(receiver), store))
}

const PROOFS: [&str; 3] = [
    "GEMINI_WEBHOOK_JOB_KEY",
    "GEMINI_WEBHOOK_AUDIENCE",
    "GEMINI_WEBHOOK_ACCEPT_ANY_SENDER",
];

fn key_source(source: &str) -> Result<RefreshedKeys, String> {
    if source.contains("://") {
        let endpoint =
            JwksEndpoint::new(source).map_err(|error| format!("GEMINI_WEBHOOK_JWKS: {error}"))?;
        return Ok(RefreshedKeys::new(endpoint));
    }
    let path = source.to_owned();
    Ok(RefreshedKeys::new(move || {
        let path = path.clone();
        async move { std::fs::read(&path).map_err(|error| format!("{path}: {error}")) }
    }))
}

fn per_request(keys: &Arc<RefreshedKeys>) -> Result<PerRequest, String> {
    let [job_key, audience, any_sender] = PROOFS;
    let tokens = list(job_key, JobTokens::parse)?
        .into_iter()
        .reduce(JobTokens::or_made_by);
    let audience = variable(audience)?;
    let any_sender = match variable(any_sender)?.as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(other) => return Err(format!("{any_sender} is {other:?}, expected 1 or 0")),
    };
    let keys = Arc::clone(keys);
    let mut per_request = match (any_sender, tokens, &audience) {
        (true, None, _) => PerRequest::any_sender(keys),
        (true, Some(tokens), _) => PerRequest::any_sender(keys).job_tokens(tokens),
        (false, Some(tokens), _) => PerRequest::with_job_tokens(keys, tokens),
        (false, None, Some(audience)) => PerRequest::with_audience(keys, audience),
        (false, None, None) => {
            return Err(format!(
                "GEMINI_WEBHOOK_JWKS needs a proof that a delivery is ours: set one of {}",
                PROOFS.join(", ")
            ));
        }
    };
    if let Some(audience) = audience {
        per_request = per_request.audience(audience);
    }
    Ok(per_request)
}

/// The parts of a variable, which commas separate.
fn list<T>(name: &str, parse: impl Fn(&str) -> Result<T, ConfigError>) -> Result<Vec<T>, String> {
    let Some(value) = variable(name)? else {
        return Ok(Vec::new());
    };
    let parts = value.split(',').enumerate();
    parts
        .map(|(position, part)| {
            parse(part.trim()).map_err(|error| format!("{name}, part {}: {error}", position + 1))
        })
        .collect()
}

/// A variable of the environment; an empty one counts as not set.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}
