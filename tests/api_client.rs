//! `ApiClient` sends the API key to nobody else, and reads no more than it should. With it, an event
//! leads to its result.

use std::{error::Error as StdError, iter::successors, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::any,
};
use futures_util::stream;
use gemini_webhooks::{
    Event,
    configure::{
        ApiClient, ApiError, JobOutput, JobService, JobState, JobStatus, Resource, Revocation,
        RotatedSecret, SendError, WebhookService, acknowledged, downloaded,
    },
};
use http::Request;
use tokio::{net::TcpListener, sync::Mutex};

const API_KEY: &str = "AIzaSyC2FV";

/// The API keys of the requests that a server got.
type Keys = Arc<Mutex<Vec<String>>>;

/// Starts a server that answers everything alike, and returns its address.
async fn start<R: IntoResponse + Send>(
    answer: impl Fn() -> R + Clone + Send + Sync + 'static,
) -> (String, Keys) {
    let keys = Keys::default();
    let got = Arc::clone(&keys);
    let handler = any(async move |headers: HeaderMap| {
        let key = headers["x-goog-api-key"].to_str().unwrap();
        got.lock().await.push(key.to_owned());
        answer()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(handler);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, keys)
}

/// Starts a server that has one batch and one interaction, and answers as Google's is documented to.
/// Returns its address, and the requests that it got.
async fn start_jobs() -> (String, Keys) {
    let requests = Keys::default();
    let got = Arc::clone(&requests);
    let handler = any(async move |request: Request<Body>| {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        assert_eq!(headers["x-goog-api-key"], API_KEY);
        let length = headers.get("content-length");
        let length = length.map_or("-", |length| length.to_str().unwrap());
        let line = format!("{method} {uri} {length}");
        got.lock().await.push(line.clone());
        let body = match line.as_str() {
            "GET /v1/batches/batch_123456 -" => BATCH,
            "GET /download/v1/files/r-1:download?alt=media -" => RESULTS,
            "GET /v1/interactions/v1_ChdVHJ5Q.. -" => {
                r#"{"id":"v1_ChdVHJ5Q..","status":"in_progress"}"#
            }
            "POST /v1/batches/batch_123456:cancel 0" => "{}",
            "POST /v1/interactions/v1_ChdVHJ5Q../cancel 0" => {
                r#"{"id":"v1_ChdVHJ5Q..","status":"cancelled"}"#
            }
            _ => {
                let body = r#"{"error":{"code":404,"message":"none","status":"NOT_FOUND"}}"#;
                return (StatusCode::NOT_FOUND, body);
            }
        };
        (StatusCode::OK, body)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(handler);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, requests)
}

const BATCH: &str = r#"{"name":"batches/batch_123456","done":true,
    "metadata":{"state":"BATCH_STATE_SUCCEEDED","output":{"responsesFile":"files/r-1"}},
    "response":{"responsesFile":"files/r-1"}}"#;

/// One line per request of the batch, of which the first failed.
const RESULTS: &str = "{\"error\":{\"code\":3}}\n{\"response\":{\"text\":\"\u{e9}\"}}\n";

fn jobs(url: &str) -> JobService {
    let service = JobService::new(API_KEY).unwrap();
    service.base_url(url).unwrap()
}

fn service(url: &str) -> WebhookService {
    let service = WebhookService::new(API_KEY).unwrap();
    service.base_url(url).unwrap()
}

fn rotate(url: &str) -> Request<Vec<u8>> {
    let service = service(url);
    service.rotate("wh_1", Revocation::AfterH24).unwrap()
}

/// Everything that a logger might print.
fn shown(error: &SendError) -> String {
    let first: &(dyn StdError + 'static) = error;
    let chain = successors(Some(first), |&error| error.source());
    let chain: Vec<_> = chain.map(ToString::to_string).collect();
    format!("{error:?} {}", chain.join(": "))
}

#[tokio::test]
async fn an_answer_is_returned_with_its_status_and_headers() {
    let (url, keys) = start(|| r#"{"secret":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}"#).await;
    let client = ApiClient::new().unwrap();
    let response = client.send(rotate(&url)).await.unwrap();
    let rotated = RotatedSecret::from_response(&response).unwrap();
    assert!(rotated.secret.parse().is_ok());
    assert_eq!(*keys.lock().await, [API_KEY]);

    let refused = || {
        let headers = [("retry-after", "7")];
        (StatusCode::TOO_MANY_REQUESTS, headers, "{}")
    };
    let (url, _) = start(refused).await;
    let response = client.send(rotate(&url)).await.unwrap();
    let Err(ApiError::Refused { retry_after, .. }) = acknowledged(&response) else {
        panic!("{response:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn no_redirect_takes_the_key_elsewhere() {
    let (other, keys) = start(|| "{}").await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{other}/v1/webhooks");
        let redirect = move || {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("location", location.clone())])
        };
        let (url, _) = start(redirect).await;
        let client = ApiClient::new().unwrap();
        let response = client.send(rotate(&url)).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(acknowledged(&response).is_err());
    }
    assert!(keys.lock().await.is_empty());
}

#[tokio::test]
async fn an_address_that_is_not_to_be_asked_gets_nothing() {
    let client = ApiClient::new().unwrap();
    for uri in [
        "http://example.com/v1/webhooks?key=hunter2",
        "http://10.0.0.1/v1/webhooks",
        "https://me:hunter2@example.com/",
        "ftp://localhost/",
        "/v1/webhooks",
        "http://127.0.0.1:1/v1/webhooks/%2E%2E",
        "http://127.0.0.1:1/v1/webhooks/../models",
        "http://127.1:1/v1/webhooks",
    ] {
        let request = Request::get(uri).body(Vec::new()).unwrap();
        let error = client.send(request).await.unwrap_err();
        assert!(
            matches!(error, SendError::InvalidRequest { .. }),
            "{uri}: {error:?}"
        );
        assert!(!shown(&error).contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up() {
    let endless = || {
        let chunk = || Some((Ok::<_, std::io::Error>(vec![b' '; 1 << 16]), ()));
        Body::from_stream(stream::unfold((), move |()| async move { chunk() }))
    };
    let (url, _) = start(endless).await;
    let client = ApiClient::new().unwrap();
    let error = client.send(rotate(&url)).await.unwrap_err();
    assert!(
        matches!(error, SendError::AnswerTooLong { .. }),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "the answer is longer than 8388608 bytes");

    let stalled = || Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let (url, _) = start(stalled).await;
    let client = client.timeout(Duration::from_millis(200));
    let error = client.send(rotate(&url)).await.unwrap_err();
    assert_eq!(error.to_string(), "no whole answer within 200ms");
}

#[tokio::test]
async fn an_error_shows_neither_key_nor_query() {
    let client = ApiClient::new().unwrap();
    let service = service("http://127.0.0.1:1/prefix");
    let request = service.list(None, Some("hunter2")).unwrap();
    let error = client.send(request).await.unwrap_err();
    let shown = shown(&error);
    assert!(shown.contains("refused"), "{shown}");
    for secret in ["hunter2", "C2FV", "prefix"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let request = rotate("http://127.0.0.1:1");
    let shown = format!("{request:?} {client:?} {service:?}");
    assert!(!shown.contains("C2FV"), "{shown}");
}

#[tokio::test]
async fn an_event_leads_to_the_results_of_its_batch() {
    let (url, requests) = start_jobs().await;
    let (client, service) = (ApiClient::new().unwrap(), jobs(&url));
    let event = r#"{"type":"batch.succeeded","data":{"id":"batch_123456"}}"#;
    let event: Event = serde_json::from_str(event).unwrap();
    let request = service.get(&event.resource().unwrap()).unwrap();
    let status = JobStatus::from_response(&client.send(request).await.unwrap()).unwrap();
    assert_eq!(status.state, JobState::Ended);
    assert_eq!(status.succeeded, Some(true));
    let Some(JobOutput::File(file)) = status.output else {
        panic!("{status:?}");
    };
    let response = client.send(service.download(&file).unwrap()).await.unwrap();
    assert_eq!(downloaded(&response).unwrap(), RESULTS.as_bytes());
    assert_eq!(requests.lock().await.len(), 2);
}

#[tokio::test]
async fn an_interaction_is_asked_about_and_cancelled_by_an_id_with_full_stops() {
    let (url, _) = start_jobs().await;
    let (client, service) = (ApiClient::new().unwrap(), jobs(&url));
    let interaction = Resource::interaction("v1_ChdVHJ5Q..").unwrap();
    let response = client.send(service.get(&interaction).unwrap()).await;
    let status = JobStatus::from_response(&response.unwrap()).unwrap();
    assert_eq!(status.state, JobState::Running);
    let response = client.send(service.cancel(&interaction).unwrap()).await;
    let response = response.unwrap();
    acknowledged(&response).unwrap();
    let status = JobStatus::from_response(&response).unwrap();
    assert_eq!(status.state, JobState::Ended);
    assert_eq!(status.succeeded, Some(false));
}

#[tokio::test]
async fn a_batch_is_cancelled_and_another_one_is_not_found() {
    let (url, requests) = start_jobs().await;
    let (client, service) = (ApiClient::new().unwrap(), jobs(&url));
    let batch = Resource::batch("batch_123456").unwrap();
    let response = client.send(service.cancel(&batch).unwrap()).await;
    acknowledged(&response.unwrap()).unwrap();

    let other = Resource::batch("batch_123456/../a:b?c").unwrap();
    let response = client.send(service.get(&other).unwrap()).await.unwrap();
    let error = JobStatus::from_response(&response).unwrap_err();
    assert_eq!(error.to_string(), "the service answers 404 NOT_FOUND: none");
    let missing = service.download(&Resource::file("r-2").unwrap()).unwrap();
    let response = client.send(missing).await.unwrap();
    let error = downloaded(&response).unwrap_err();
    assert_eq!(error.to_string(), "the service answers 404 NOT_FOUND: none");
    let asked = "GET /v1/batches/batch_123456%2F..%2Fa%3Ab%3Fc -";
    assert_eq!(requests.lock().await[1], asked);
}

#[tokio::test]
async fn a_download_that_is_redirected_takes_the_key_nowhere() {
    let (other, keys) = start(|| "result").await;
    let location = format!("{other}/v1/files/r-1");
    let redirect = move || (StatusCode::FOUND, [("location", location.clone())]);
    let (url, _) = start(redirect).await;
    let request = jobs(&url).download(&Resource::file("r-1").unwrap());
    let response = ApiClient::new().unwrap().send(request.unwrap()).await;
    let error = downloaded(&response.unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the service answers 302");
    assert!(keys.lock().await.is_empty());
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_length_that_was_set() {
    let (url, _) = start_jobs().await;
    let request = || jobs(&url).download(&Resource::file("r-1").unwrap());
    let client = ApiClient::new().unwrap().max_answer(RESULTS.len());
    let response = client.send(request().unwrap()).await.unwrap();
    assert_eq!(response.body().len(), RESULTS.len());
    let client = client.max_answer(RESULTS.len() - 1);
    let error = client.send(request().unwrap()).await.unwrap_err();
    let allowed = RESULTS.len() - 1;
    let expected = format!("the answer is longer than {allowed} bytes");
    assert_eq!(error.to_string(), expected);
}
