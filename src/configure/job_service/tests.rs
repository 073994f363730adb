use http::{
    HeaderValue,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::*;
use crate::configure::WebhookService;

fn service() -> JobService {
    JobService::new("KEY-1").unwrap()
}

fn resource(name: &str) -> Resource {
    name.parse().unwrap()
}

#[track_caller]
fn expect(request: Result<Request<Vec<u8>>, RequestError>, method: &str, path: &str) {
    let request = request.unwrap();
    assert_eq!(request.method(), method);
    let base = WebhookService::GOOGLE;
    assert_eq!(request.uri().to_string(), format!("{base}{path}"));
    assert_eq!(request.headers()["x-goog-api-key"], "KEY-1");
    assert!(!format!("{request:?}").contains("KEY-1"), "{request:?}");
    assert!(request.body().is_empty());
    assert!(!request.headers().contains_key(CONTENT_TYPE));
    let length = request.headers().get(CONTENT_LENGTH);
    let expected = HeaderValue::from(0);
    assert_eq!(length, (method == "POST").then_some(&expected));
}

#[test]
fn requests_are_those_of_the_reference() {
    let service = service();
    let (interaction, batch) = (resource("interactions/v1_Chd.."), resource("batches/1"));
    expect(
        service.get(&interaction),
        "GET",
        "/v1/interactions/v1_Chd..",
    );
    expect(
        service.cancel(&interaction),
        "POST",
        "/v1/interactions/v1_Chd../cancel",
    );
    expect(service.get(&batch), "GET", "/v1/batches/1");
    expect(service.cancel(&batch), "POST", "/v1/batches/1:cancel");
    let file = resource("files/abc");
    expect(
        service.download(&file),
        "GET",
        "/download/v1/files/abc:download?alt=media",
    );
    let service = service.version(ApiVersion::V1Beta);
    expect(service.get(&batch), "GET", "/v1beta/batches/1");
    expect(
        service.download(&file),
        "GET",
        "/download/v1beta/files/abc:download?alt=media",
    );
}

#[test]
fn a_file_is_asked_for_in_any_form() {
    let service = service();
    let file = service.download(&resource("files/1")).unwrap();
    assert_eq!(file.headers()[ACCEPT], "*/*");
    let job = service.get(&resource("batches/1")).unwrap();
    assert_eq!(job.headers()[ACCEPT], "application/json");
}

#[test]
fn an_id_can_not_change_the_path() {
    for (id, encoded) in [
        ("../models", "..%2Fmodels"),
        ("1/cancel", "1%2Fcancel"),
        ("1:cancel", "1%3Acancel"),
        ("a?alt=b#c", "a%3Falt%3Db%23c"),
        ("a%2Fb", "a%252Fb"),
        ("\u{e9}\r\n", "%C3%A9%0D%0A"),
    ] {
        let service = service();
        let batch = Resource::batch(id).unwrap();
        expect(
            service.get(&batch),
            "GET",
            &format!("/v1/batches/{encoded}"),
        );
        let path = format!("/v1/batches/{encoded}:cancel");
        expect(service.cancel(&batch), "POST", &path);
        let interaction = Resource::interaction(id).unwrap();
        let path = format!("/v1/interactions/{encoded}/cancel");
        expect(service.cancel(&interaction), "POST", &path);
        let file = Resource::file(id).unwrap();
        let path = format!("/download/v1/files/{encoded}:download?alt=media");
        expect(service.download(&file), "GET", &path);
    }
}

#[test]
fn what_a_resource_can_not_be_asked_for_is_refused() {
    let service = service();
    let file = resource("files/1");
    let long = Resource::batch(&"a".repeat(70_000)).unwrap();
    for request in [
        service.get(&file),
        service.cancel(&file),
        service.download(&resource("batches/1")),
        service.download(&resource("interactions/1")),
        service.get(&long),
    ] {
        let refused = matches!(request, Err(RequestError::InvalidRequest { .. }));
        assert!(refused, "{request:?}");
    }
}

#[test]
fn the_address_and_the_key_are_checked_and_the_key_is_not_shown() {
    assert!(JobService::new("a b").is_err());
    assert!(service().base_url("http://example.com").is_err());
    assert!(service().base_url("https://example.com/?a=b").is_err());
    let local = service().base_url("http://127.0.0.1:8080/api/").unwrap();
    let request = local.download(&resource("files/1")).unwrap();
    let path = "http://127.0.0.1:8080/api/download/v1/files/1:download?alt=media";
    assert_eq!(request.uri(), path);
    let shown = format!("{local:?}");
    assert!(
        shown.starts_with("JobService") && !shown.contains("KEY-1"),
        "{shown}"
    );
}
