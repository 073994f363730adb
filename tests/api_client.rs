//! `ApiClient` sends the API key to nobody else, and reads no more than it should.

use std::{error::Error as StdError, iter::successors, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::any,
};
use futures_util::stream;
use gemini_webhooks::configure::{
    ApiClient, ApiError, Revocation, RotatedSecret, SendError, WebhookService, acknowledged,
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
    assert!(matches!(error, SendError::AnswerTooLong), "{error:?}");
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
