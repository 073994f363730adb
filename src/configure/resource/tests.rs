use serde_json::{Value, json};

use super::*;
use crate::EventType;

fn event(event_type: &str, data: &Value) -> Event {
    let json = json!({"type": event_type, "data": data});
    serde_json::from_value(json).unwrap()
}

/// The name of the resource that the event leads to.
fn name(event_type: &str, data: &Value) -> Option<String> {
    let resource = event(event_type, data).resource();
    resource.map(|resource| resource.to_string())
}

#[test]
fn a_name_is_read_as_it_is_written() {
    for (name, id) in [
        ("batches/123456", "123456"),
        ("interactions/v1_ChdVHJ5Q..", "v1_ChdVHJ5Q.."),
        ("files/a-b_c", "a-b_c"),
        ("batches/batches/1", "batches/1"),
        ("files/../models", "../models"),
        ("batches/\u{e9} ?#%2F", "\u{e9} ?#%2F"),
    ] {
        let resource = Resource::parse(name).unwrap();
        assert_eq!(resource.id(), id);
        assert_eq!(resource.to_string(), name);
        assert_eq!(name.parse(), Ok(resource));
    }
}

#[test]
fn a_bare_id_and_a_name_are_the_same_resource() {
    for (bare, named) in [
        (Resource::batch("1"), Resource::batch("batches/1")),
        (
            Resource::interaction("1"),
            Resource::interaction("interactions/1"),
        ),
        (Resource::file("1"), Resource::file("files/1")),
    ] {
        assert_eq!(bare, named);
    }
    assert_ne!(Resource::batch("1"), Resource::interaction("1"));
    let other = Resource::batch("interactions/1").unwrap();
    assert_eq!(other.to_string(), "batches/interactions/1");
}

#[test]
fn a_text_that_names_nothing_is_refused() {
    for name in [
        "",
        "/",
        "1",
        "batches",
        "batches/",
        "Batches/1",
        "batch/1",
        "/batches/1",
        "operations/1",
        "models/veo/operations/1",
        "gs://bucket/files/1",
    ] {
        assert!(Resource::parse(name).is_err(), "{name}");
    }
}

#[test]
fn an_id_that_clients_resolve_is_refused() {
    for id in ["", ".", "..", "%2E", "%2e.", "%252e%252E"] {
        for resource in [
            Resource::batch(id),
            Resource::interaction(id),
            Resource::file(id),
            Resource::batch(&format!("batches/{id}")),
            Resource::parse(&format!("files/{id}")),
        ] {
            assert!(resource.is_err(), "{id:?}: {resource:?}");
        }
        assert_eq!(name("batch.failed", &json!({"id": id})), None);
    }
}

#[test]
fn an_event_leads_to_its_batch_or_interaction() {
    for (event_type, id, expected) in [
        ("batch.succeeded", json!("batch_1"), "batches/batch_1"),
        ("batch.failed", json!("batches/1"), "batches/1"),
        ("batch.expired", json!(7), "batches/7"),
        ("batch.new", json!("1"), "batches/1"),
        (
            "interaction.completed",
            json!("v1_a.."),
            "interactions/v1_a..",
        ),
        (
            "interaction.failed",
            json!("batches/1"),
            "interactions/batches/1",
        ),
        ("interaction.incomplete", json!("1"), "interactions/1"),
    ] {
        let found = name(event_type, &json!({"id": id}));
        assert_eq!(found.as_deref(), Some(expected), "{event_type}");
    }
}

#[test]
fn a_video_leads_to_its_file_and_to_nothing_else() {
    for (members, expected) in [
        (json!({"file_name": "files/v1"}), Some("files/v1")),
        (json!({"output_file_uri": "files/v2"}), Some("files/v2")),
        (json!({"video_uri": "files/v3"}), Some("files/v3")),
        (
            json!({"file_name": "cat.mp4", "output_file_uri": "files/v4"}),
            Some("files/v4"),
        ),
        (
            json!({"file_name": "files/v5", "output_file_uri": "files/v6"}),
            Some("files/v5"),
        ),
        (json!({"file_name": "files/my video.mp4"}), None),
        (json!({"file_name": "batches/1"}), None),
        (json!({"output_file_uri": "gs://my-bucket/files/v7"}), None),
        (json!({}), None),
    ] {
        let mut data = members;
        data["id"] = "operation_1".into();
        let found = name("video.generated", &data);
        assert_eq!(found.as_deref(), expected, "{data}");
    }
}

#[test]
fn an_event_about_nothing_known_leads_nowhere() {
    for (event_type, data) in [
        ("ping", json!({"id": "1"})),
        ("batch", json!({"id": "1"})),
        ("batches.succeeded", json!({"id": "1"})),
        ("agent.completed", json!({"id": "1"})),
        ("batch.succeeded", json!({})),
        ("batch.succeeded", json!({"id": ""})),
        ("interaction.failed", json!({"id": ["1"]})),
        ("batch.new", json!(null)),
    ] {
        assert_eq!(name(event_type, &data), None, "{event_type} {data}");
    }
}

#[test]
fn the_document_names_the_resource_of_each_type() {
    let document = include_str!("../../../docs/results.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    for event_type in EventType::KNOWN {
        let data = json!({"id": "{id}", "file_name": "files/id"});
        let found = name(event_type.as_str(), &data).unwrap();
        let collection = found.split('/').next().unwrap();
        let cell = format!("| `{event_type}`");
        let row = rows.iter().find(|row| row[0] == cell).expect(&cell);
        assert!(row[2].contains(&format!("/{collection}/")), "{row:?}");
    }
    assert_eq!(rows.len(), EventType::KNOWN.len());
}

#[test]
fn secrets_in_an_id_are_not_shown() {
    let resource = Resource::batch("whsec_C2FVsBQIhrscChlQIMV").unwrap();
    let shown = format!("{resource:?}");
    assert_eq!(shown, r#"Resource("batches/whsec_..")"#);
}
