//! Stands in for AWS: serves HTTP at `BIND`, and runs the program `lambda` beside it as a Lambda
//! function behind an Application Load Balancer. See `lambda.rs`.

use std::{
    collections::HashMap,
    env,
    error::Error as StdError,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{AppendHeaders, IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::Command,
    sync::{mpsc, oneshot},
};

type Invocation = (Value, oneshot::Sender<Value>);

struct Aws {
    invoke: mpsc::Sender<Invocation>,
    invocations: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    running: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    number: AtomicU64,
}

impl Aws {
    fn running(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Value>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client of the load balancer sends becomes an event.
async fn request(
    State(aws): State<Arc<Aws>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut values: HashMap<&str, Vec<String>> = HashMap::new();
    for (name, value) in &headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        values.entry(name.as_str()).or_default().push(value);
    }
    let mut parameters: HashMap<&str, Vec<&str>> = HashMap::new();
    for parameter in uri.query().into_iter().flat_map(|query| query.split('&')) {
        // As the load balancer does, which decodes nothing.
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        parameters.entry(name).or_default().push(value);
    }
    let event = json!({
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:local"}},
        "httpMethod": method.as_str(),
        "path": uri.path(),
        "multiValueQueryStringParameters": parameters,
        "multiValueHeaders": values,
        "body": BASE64_STANDARD.encode(body),
        "isBase64Encoded": true,
    });
    let (answer, answered) = oneshot::channel();
    if aws.invoke.send((event, answer)).await.is_err() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let Ok(answer) = answered.await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = answer["statusCode"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let text = answer["body"].as_str().unwrap_or_default().to_owned();
    (status.unwrap_or(StatusCode::BAD_GATEWAY), text).into_response()
}

/// The Lambda runtime API.
async fn next(State(aws): State<Arc<Aws>>) -> Response {
    let Some((event, answer)) = aws.invocations.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let id = aws.number.fetch_add(1, Ordering::Relaxed).to_string();
    aws.running().insert(id.clone(), answer);
    let headers = AppendHeaders([
        ("lambda-runtime-aws-request-id", id.as_str()),
        ("lambda-runtime-deadline-ms", "9999999999999"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:local",
        ),
    ]);
    (headers, Json(event)).into_response()
}

async fn response(State(aws): State<Arc<Aws>>, Path(id): Path<String>, answer: Bytes) {
    if let Some(waiting) = aws.running().remove(&id)
        && let Ok(answer) = serde_json::from_slice(&answer)
    {
        // The client may be gone.
        let _ = waiting.send(answer);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let (invoke, invocations) = mpsc::channel(1000);
    let aws = Arc::new(Aws {
        invoke,
        invocations: invocations.into(),
        running: Mutex::default(),
        number: AtomicU64::new(0),
    });
    let api = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route(
            "/2018-06-01/runtime/invocation/{id}/response",
            post(response),
        )
        .with_state(Arc::clone(&aws));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let api_address = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, api).await });

    let mut function = Command::new(env::current_exe()?.with_file_name("lambda"));
    function
        .env("AWS_LAMBDA_RUNTIME_API", api_address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "webhook")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128");
    let mut function = function.kill_on_drop(true).spawn()?;

    // As the service does: more than 6 MB reach no function.
    let app = Router::new()
        .route("/webhook", post(request))
        .layer(DefaultBodyLimit::max(6_000_000))
        .with_state(aws);
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let listener = TcpListener::bind(bind).await?;
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        ended = function.wait() => return Err(format!("the function has ended: {}", ended?).into()),
    }
    Ok(())
}
