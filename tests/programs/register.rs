use super::*;

#[path = "../../examples/support/webhook_service.rs"]
mod webhook_service;

use gemini_webhooks::configure::{
    ApiClient, NewWebhook, Revocation, RotatePath, WebhookPage, WebhookService, WebhookState,
    WebhookUpdate,
};
pub(super) use webhook_service::WebhookService as StandIn;

pub(super) const API_KEY: &str = "an-api-key";

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
    for sentence in [
        "The webhook wh_0001 was registered.",
        "A ping arrived.",
        "deliveries arrived, and none was refused.",
        "The receiver forgot the old secret after two days:",
        "The list of webhooks is empty.",
    ] {
        assert!(shown.contains(sentence), "{shown}");
    }
    assert!(shown.lines().all(|line| line.ends_with('.')), "{shown}");
    let last = shown.lines().last().unwrap();
    assert!(
        last.starts_with("Everything happened as expected: of "),
        "{shown}"
    );
    assert!(
        last.ends_with(" deliveries during the rotation, none was refused."),
        "{shown}"
    );
}

#[tokio::test]
async fn register_does_what_it_is_told_to() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let url = "https://example.com/webhook";
    let (shown, said, status) = register(
        &google,
        &[
            "create",
            url,
            "--event",
            "batch.failed",
            "--name",
            "a \u{1b}b",
        ],
    )
    .await;
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
    let expected = format!("{id} enabled {url} batch.failed \"a \\u{{1b}}b\"\n");
    assert_eq!(shown, expected);
    // The output is the secret alone: a setting would drop the previous one.
    for (arguments, advice) in [
        (&["rotate", id] as &[&str], "for two days from now"),
        (
            &["rotate", id, "--immediately"],
            "in its place in GEMINI_WEBHOOK_SECRETS now",
        ),
    ] {
        let (shown, said, status) = register(&google, arguments).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(Secret::parse(shown.trim()).is_ok(), "{said}");
        assert!(
            !shown.contains(first) && !said.contains(shown.trim()),
            "{said}"
        );
        assert!(said.contains(advice), "{said}");
    }
    register(&google, &["rotate", &format!("webhooks/{id}")]).await;
    let (shown, ..) = register(&google, &["list"]).await;
    assert!(shown.contains("ends at"), "{shown}");
    let update = ["update", id, "--state", "disabled", "--name", "other"];
    let (shown, ..) = register(&google, &update).await;
    assert!(
        shown.contains(" disabled ") && shown.contains(" \"other\""),
        "{shown}"
    );
    let (_, said, status) = register(&google, &["ping", id]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("even if the address can't be reached"),
        "{said}"
    );
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
        (
            &["create", url, "--event", "batch.cancelled"],
            "400 INVALID_ARGUMENT",
            1,
        ),
        (&["update", id], "changes nothing", 2),
        (&["update", id, "--state", "paused"], "possible values", 2),
        (&["delete", ".."], "only full stops", 2),
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

#[tokio::test]
async fn register_subscribes_to_everything_that_the_service_accepts() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let (_, said, status) = register(&google, &["create", "https://example.com"]).await;
    assert_eq!(status, Some(0), "{said}");
    let (shown, ..) = register(&google, &["list"]).await;
    let names: Vec<_> = EventType::SUBSCRIBABLE
        .iter()
        .map(EventType::as_str)
        .collect();
    assert!(shown.contains(&names.join(",")), "{shown}");
}

/// A proxy would get the API key, which goes to the loopback interface in plain text.
#[tokio::test]
async fn register_asks_no_proxy_for_the_loopback_interface() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let mut command = example("register");
    command.args(["--base-url", &google.url(), "list"]);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(variable, "http://127.0.0.1:1");
    }
    let output = output(command.env("GEMINI_API_KEY", API_KEY)).await;
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn register_says_that_the_service_can_not_be_reached() {
    let mut command = example("register");
    command.args(["--base-url", "http://127.0.0.1:1", "list"]);
    let output = output(command.env("GEMINI_API_KEY", API_KEY)).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("refused") && !said.contains(API_KEY),
        "{said}"
    );
}

/// What the stand-in takes is what the reference documents.
#[tokio::test]
async fn the_stand_in_checks_each_field() {
    let google = StandIn::start(API_KEY).await.unwrap();
    let client = ApiClient::new().unwrap();
    let service = service(&google);
    let new = NewWebhook::new("https://example.com").unwrap();
    let new = new.subscribe(EventType::BatchFailed);
    let create = || service.create(&new).unwrap();
    let status = async |request: http::Request<Vec<u8>>| {
        client.send(request).await.unwrap().status().as_u16()
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
        "/v1/webhooks/a:dance",
    ] {
        let mut request = create();
        *request.uri_mut() = format!("{}{path}", google.url()).parse().unwrap();
        assert_eq!(status(request).await, 404, "{path}");
    }
    let update = WebhookUpdate::default().name("n");
    for service in [service.clone(), service.clone().with_update_mask()] {
        assert_eq!(
            status(service.update("wh_0001", &update).unwrap()).await,
            200
        );
    }
    let deleted = WebhookUpdate::default().state(WebhookState::Unknown("deleted".into()));
    assert_eq!(
        status(service.update("wh_0001", &deleted).unwrap()).await,
        400
    );
    let rotate = |service: &WebhookService, id| service.rotate(id, Revocation::AfterH24).unwrap();
    assert_eq!(status(rotate(&service, "wh_0001")).await, 200);
    assert_eq!(status(rotate(&service, "wh_0002")).await, 404);
    let guide = service.clone().rotate_path(RotatePath::Guide);
    assert_eq!(status(rotate(&guide, "wh_0001")).await, 404);
    let event =
        |event: &str| with_body(json!({"uri": "https://e.com", "subscribed_events": [event]}));
    for event_type in EventType::KNOWN {
        let expected = if EventType::SUBSCRIBABLE.contains(event_type) {
            200
        } else {
            400
        };
        assert_eq!(
            status(event(event_type.as_str())).await,
            expected,
            "{event_type}"
        );
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
    let client = ApiClient::new().unwrap();
    let service = service(&google);
    for number in 0..7 {
        let new = NewWebhook::new(format!("https://example.com/{number}")).unwrap();
        let create = service
            .create(&new.subscribe(EventType::BatchFailed))
            .unwrap();
        client.send(create).await.unwrap();
    }
    let (mut sizes, mut uris, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let request = service.list(Some(3), token.as_deref()).unwrap();
        let response = client.send(request).await.unwrap();
        let page = WebhookPage::from_response(&response).unwrap();
        sizes.push(page.webhooks.len());
        uris.extend(page.webhooks.into_iter().filter_map(|webhook| webhook.uri));
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [3, 3, 1]);
    uris.dedup();
    assert_eq!(uris.len(), 7);
}
