use super::*;

#[path = "../../examples/support/webhook_service.rs"]
mod webhook_service;

use gemini_webhooks::configure::{
    NewWebhook, Revocation, RotatePath, WebhookPage, WebhookService, WebhookState, WebhookUpdate,
};
use webhook_service::WebhookService as StandIn;

#[path = "../../examples/support/send.rs"]
mod send;

const API_KEY: &str = "an-api-key";

fn service(google: &StandIn) -> WebhookService {
    let service = WebhookService::new(API_KEY).unwrap();
    service.base_url(&google.url()).unwrap()
}

async fn register(google: &StandIn, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = example("register");
    command.args(["--base-url", &google.url()]).args(arguments);
    let output = output(command.env("GEMINI_API_KEY", API_KEY)).await;
    let [shown, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(!shown.contains(API_KEY) && !said.contains(API_KEY));
    (shown, said, output.status.code())
}

#[tokio::test]
async fn cycle_registers_receives_rotates_and_deletes() {
    let output = output(&mut example("cycle")).await;
    let shown = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.ends_with("all as expected\n"), "{shown}");
}

#[tokio::test]
async fn register_does_what_it_is_told_to() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let url = "https://example.com/webhook";
    let (shown, said, status) =
        register(&google, &["create", url, "--event", "batch.failed"]).await;
    assert_eq!(status, Some(0), "{said}");
    // The output is a setting, and nothing else.
    let first = shown
        .strip_prefix("GEMINI_WEBHOOK_SECRETS=")
        .unwrap()
        .trim();
    assert!(
        Secret::parse(first).is_ok() && !said.contains(first),
        "{said}"
    );
    let id = said
        .lines()
        .next()
        .unwrap()
        .strip_prefix("created ")
        .unwrap();

    let (shown, ..) = register(&google, &["list"]).await;
    assert_eq!(shown, format!("{id} enabled {url} batch.failed\n"));
    let (shown, said, _) = register(&google, &["rotate", id]).await;
    assert!(shown.starts_with("GEMINI_WEBHOOK_SECRETS=whsec_") && !shown.contains(first));
    assert!(said.contains("both"), "{said}");
    let (shown, ..) = register(&google, &["list"]).await;
    assert!(shown.contains("ends at"), "{shown}");
    let (_, said, _) = register(&google, &["rotate", id, "--immediately"]).await;
    assert!(said.contains("now"), "{said}");
    let (shown, ..) = register(&google, &["update", id, "--state", "disabled"]).await;
    assert!(shown.contains(" disabled "), "{shown}");
    assert_eq!(register(&google, &["ping", id]).await.2, Some(0));
    assert_eq!(register(&google, &["delete", id]).await.2, Some(0));
    assert_eq!(register(&google, &["list"]).await.0, "");

    for (arguments, expected, code) in [
        (&["delete", id][..], "404 NOT_FOUND", 1),
        (&["create", "http://example.com"], "loopback", 2),
        (
            &["create", url, "--event", "no.such"],
            "400 INVALID_ARGUMENT",
            1,
        ),
        (&["update", id], "changes nothing", 2),
        (&["--api-key", "wrong", "list"], "403 PERMISSION_DENIED", 1),
        (&["frobnicate"], "unrecognized", 2),
    ] {
        let (_, said, status) = register(&google, arguments).await;
        assert!(said.contains(expected), "{said}");
        assert_eq!(status, Some(code), "{said}");
    }
    let output = output(example("register").arg("list")).await;
    assert_eq!(output.status.code(), Some(2));
}

/// What the stand-in takes is what the reference documents.
#[tokio::test]
async fn the_stand_in_checks_each_field() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let client = reqwest::Client::new();
    let service = service(&google);
    let new = NewWebhook::new("https://example.com").unwrap();
    let new = new.subscribe(EventType::BatchFailed);
    let create = || service.create(&new).unwrap();
    let status = async |request: http::Request<Vec<u8>>| {
        send::send(&client, request)
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status(create()).await, 200);

    let with_body = |body: Value| {
        let mut request = create();
        *request.body_mut() = body.to_string().into_bytes();
        request
    };
    let events = json!(["batch.failed"]);
    for body in [
        json!({}),
        json!({"uri": "https://e.com"}),
        json!({"uri": "https://e.com", "subscribed_events": []}),
        json!({"uri": "https://e.com", "subscribed_events": ["no.such"]}),
        json!({"uri": "e.com", "subscribed_events": events}),
        json!({"uri": 7, "subscribed_events": events}),
        json!({"uri": "https://e.com", "subscribedEvents": events}),
        json!({"uri": "https://e.com", "subscribed_events": events, "secret": "s"}),
    ] {
        assert_eq!(status(with_body(body.clone())).await, 400, "{body}");
    }
    let mut without_type = create();
    without_type.headers_mut().remove("content-type");
    assert_eq!(status(without_type).await, 400);
    let mut without_key = create();
    without_key.headers_mut().remove("x-goog-api-key");
    assert_eq!(status(without_key).await, 403);
    for path in [
        "/v1beta/models",
        "/v2/webhooks",
        "/webhooks",
        "/v1beta/webhooks/a:dance",
    ] {
        let mut request = create();
        *request.uri_mut() = format!("{}{path}", google.url()).parse().unwrap();
        assert_eq!(status(request).await, 404, "{path}");
    }
    let update = WebhookUpdate::default().name("n");
    let request = |mask: &str| {
        let mut request = service.update("wh_0001", &update).unwrap();
        let uri = request.uri().to_string().replace("=name", mask);
        *request.uri_mut() = uri.parse().unwrap();
        request
    };
    assert_eq!(status(request("=name")).await, 200);
    for mask in ["=", "=uri", "=name,uri", "=id", "s=name"] {
        assert_eq!(status(request(mask)).await, 400, "{mask}");
    }
    let deleted = WebhookUpdate::default().state(WebhookState::Unknown("deleted".into()));
    assert_eq!(
        status(service.update("wh_0001", &deleted).unwrap()).await,
        400
    );
    for path in [RotatePath::Sdk, RotatePath::Guide] {
        let service = service.clone().rotate_path(path);
        let rotate = service.rotate("wh_0001", Revocation::AfterH24).unwrap();
        assert_eq!(status(rotate).await, 200, "{path:?}");
        let rotate = service.rotate("wh_0002", Revocation::Immediately).unwrap();
        assert_eq!(status(rotate).await, 404, "{path:?}");
    }
}

/// The number of signatures in each delivery that a server gets, which fails at first.
#[tokio::test]
async fn the_stand_in_delivers_until_acknowledged_with_each_live_secret() {
    use axum::{
        extract::State,
        http::{HeaderMap, StatusCode},
        routing::post,
    };
    use std::sync::{Arc, Mutex};

    type Got = Arc<Mutex<Vec<(String, usize)>>>;
    async fn answer(State(got): State<Got>, headers: HeaderMap) -> StatusCode {
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        let mut got = got.lock().unwrap();
        got.push((
            text("webhook-id"),
            text("webhook-signature").split(' ').count(),
        ));
        if got.len() == 1 {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::OK
        }
    }
    let got = Got::default();
    let router = axum::Router::new()
        .route("/", post(answer))
        .with_state(Arc::clone(&got));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let google = StandIn::start(API_KEY).await.unwrap();
    register(&google, &["create", &url]).await;
    let event_type = EventType::BatchFailed;
    assert_eq!(google.deliver(&event_type).await, [502, 200]);
    register(&google, &["rotate", "wh_0001"]).await;
    google.deliver(&event_type).await;
    google.advance(Duration::from_secs(23 * 60 * 60));
    google.deliver(&event_type).await;
    google.advance(Duration::from_secs(2 * 60 * 60));
    google.deliver(&event_type).await;
    let got = got.lock().unwrap();
    let counts: Vec<usize> = got.iter().map(|(_, signatures)| *signatures).collect();
    assert_eq!(counts, [1, 1, 2, 2, 1]);
    assert_eq!(got[0].0, got[1].0, "the id of a retry");
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let client = reqwest::Client::new();
    let service = service(&google);
    for number in 0..7 {
        let new = NewWebhook::new(format!("https://example.com/{number}")).unwrap();
        let create = service
            .create(&new.subscribe(EventType::BatchFailed))
            .unwrap();
        send::send(&client, create).await.unwrap();
    }
    let (mut sizes, mut uris, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let request = service.list(Some(3), token.as_deref()).unwrap();
        let response = send::send(&client, request).await.unwrap();
        let page = WebhookPage::from_response(&response).unwrap();
        sizes.push(page.webhooks.len());
        uris.extend(page.webhooks.into_iter().map(|webhook| webhook.uri));
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [3, 3, 1]);
    uris.dedup();
    assert_eq!(uris.len(), 7);
}
