use JobState::{Ended, NeedsAction, Running, Unknown};
use serde_json::json;

use super::*;

fn answer(json: &Value) -> Response<String> {
    Response::new(json.to_string())
}

fn status(json: &Value) -> JobStatus {
    JobStatus::from_response(&answer(json)).unwrap()
}

/// The state and the success that an answer is read as.
fn read(json: &Value) -> (JobState, Option<bool>) {
    let status = status(json);
    (status.state, status.succeeded)
}

fn batch(state: &str) -> Value {
    json!({"name": "batches/1", "metadata": {"name": "batches/1", "state": state}})
}

#[test]
fn each_state_of_an_interaction_is_read_in_any_case() {
    for (name, state, succeeded) in [
        ("queued", Running, None),
        ("in_progress", Running, None),
        ("requires_action", NeedsAction, None),
        ("completed", Ended, Some(true)),
        ("failed", Ended, Some(false)),
        ("cancelled", Ended, Some(false)),
        ("incomplete", Ended, None),
        ("budget_exceeded", Ended, None),
        ("idle", Unknown, None),
        ("requires_continuation", Unknown, None),
        ("succeeded", Unknown, None),
        ("new", Unknown, None),
    ] {
        for name in [name.to_owned(), name.to_uppercase()] {
            let status = status(&json!({"id": "v1_Chd", "status": name}));
            assert_eq!(
                (status.state, status.succeeded),
                (state, succeeded),
                "{name}"
            );
            assert_eq!(status.raw_state, Some(name));
        }
    }
}

#[test]
fn each_state_of_a_batch_is_read_with_either_prefix_in_any_case() {
    for (name, state, succeeded) in [
        ("QUEUED", Running, None),
        ("PENDING", Running, None),
        ("RUNNING", Running, None),
        ("UPDATING", Running, None),
        ("CANCELLING", Running, None),
        ("SUCCEEDED", Ended, Some(true)),
        ("FAILED", Ended, Some(false)),
        ("CANCELLED", Ended, Some(false)),
        ("EXPIRED", Ended, Some(false)),
        ("PAUSED", Unknown, None),
        ("PARTIALLY_SUCCEEDED", Unknown, None),
        ("UNSPECIFIED", Unknown, None),
        ("COMPLETED", Unknown, None),
        ("STATE_SUCCEEDED", Unknown, None),
    ] {
        for prefix in ["BATCH_STATE_", "JOB_STATE_", ""] {
            let name = format!("{prefix}{name}");
            for name in [name.to_lowercase(), name] {
                let status = status(&batch(&name));
                assert_eq!(
                    (status.state, status.succeeded),
                    (state, succeeded),
                    "{name}"
                );
                assert_eq!(status.raw_state, Some(name));
            }
        }
    }
    assert_eq!(read(&batch("BATCH_STATE_JOB_STATE_FAILED")).0, Unknown);
    assert_eq!(read(&batch("\u{20ac}\u{20ac}\u{20ac}\u{20ac}")).0, Unknown);
}

#[test]
fn a_batch_that_is_done_ended_in_a_state_of_any_name() {
    let (error, response) = (json!({"code": 13}), json!({"responsesFile": "files/1"}));
    for state in [
        json!(null),
        json!("BATCH_STATE_NEW"),
        json!("JOB_STATE_PAUSED"),
        json!(7),
    ] {
        let done = |members: Value| {
            let mut batch = json!({"name": "batches/1", "metadata": {"state": state}});
            batch
                .as_object_mut()
                .unwrap()
                .append(&mut members.as_object().unwrap().clone());
            read(&batch)
        };
        let known = state.is_null().then_some(true);
        assert_eq!(done(json!({})), (Unknown, None), "{state}");
        assert_eq!(done(json!({"done": true})), (Ended, None));
        assert_eq!(
            done(json!({"done": true, "error": error})),
            (Ended, Some(false))
        );
        assert_eq!(done(json!({"error": error})), (Ended, Some(false)));
        assert_eq!(
            done(json!({"done": true, "response": response})),
            (Ended, known)
        );
        assert_eq!(done(json!({"response": response})), (Ended, known));
        assert_eq!(
            done(json!({"response": response, "error": error})),
            (Ended, Some(false))
        );
        for not_done in [
            json!({"done": false}),
            json!({"done": false, "response": response}),
            json!({"done": false, "error": error}),
            json!({"done": "true"}),
            json!({"error": {}, "response": {}}),
            json!({"error": "text", "response": []}),
        ] {
            assert_eq!(done(not_done), (Unknown, None));
        }
    }
}

#[test]
fn a_state_that_contradicts_the_end_is_unknown() {
    for state in ["RUNNING", "PENDING", "QUEUED", "CANCELLING", "UPDATING"] {
        let mut batch = batch(&format!("BATCH_STATE_{state}"));
        batch["done"] = false.into();
        assert_eq!(read(&batch), (Running, None));
        batch["done"] = true.into();
        assert_eq!(read(&batch), (Unknown, None));
        batch["done"] = Value::Null;
        batch["error"] = json!({"code": 13});
        assert_eq!(read(&batch), (Unknown, None));
    }
}

#[test]
fn an_end_by_name_counts_before_done_is_written() {
    let mut batch = batch("BATCH_STATE_SUCCEEDED");
    assert_eq!(read(&batch), (Ended, Some(true)));
    batch["done"] = false.into();
    assert_eq!(read(&batch), (Ended, Some(true)));
    assert_eq!(status(&batch).output, None);
    let flat = json!({"name": "batches/1", "state": "JOB_STATE_EXPIRED"});
    assert_eq!(read(&flat), (Ended, Some(false)));
}

#[test]
fn the_words_of_one_family_say_nothing_of_the_other() {
    // A status decides, whatever else an interaction has.
    let interaction = json!({"status": "in_progress", "done": true, "response": {"a": 1}});
    assert_eq!(read(&interaction), (Running, None));
    let interaction = json!({"status": "BATCH_STATE_FAILED", "state": "failed"});
    assert_eq!(read(&interaction), (Unknown, None));
    assert_eq!(read(&batch("BATCH_STATE_IN_PROGRESS")), (Unknown, None));
}

#[test]
fn a_job_that_says_nothing_is_unknown() {
    for nothing in [
        json!({}),
        json!({"id": "v1_Chd", "status": null}),
        json!({"id": "v1_Chd", "status": ""}),
        json!({"id": "v1_Chd", "status": ["completed"]}),
        json!({"name": "batches/1", "metadata": "BATCH_STATE_FAILED"}),
        json!({"name": "batches/1", "metadata": {"state": {"a": "FAILED"}}}),
    ] {
        let status = status(&nothing);
        assert_eq!(
            (status.state, status.succeeded),
            (Unknown, None),
            "{nothing}"
        );
        assert_eq!(status.raw_state, None);
    }
}

#[test]
fn the_failure_of_a_job_is_no_refusal_of_the_request() {
    let mut batch = batch("BATCH_STATE_FAILED");
    batch["error"] = json!({"code": 3, "message": "row 7", "status": "INVALID_ARGUMENT"});
    let failed = status(&batch);
    assert_eq!((failed.state, failed.succeeded), (Ended, Some(false)));
    assert_eq!(failed.error_code, Some(ErrorCode::Number(3.into())));
    assert_eq!(failed.error_message.as_deref(), Some("row 7"));

    let failed = json!({"status": "failed", "error": {"code": "internal", "message": null}});
    let failed = status(&failed);
    assert_eq!(failed.error_code, Some(ErrorCode::Name("internal".into())));
    assert_eq!(failed.error_message, None);

    let refused = json!({"error": {"code": 404, "message": "no such batch"}});
    let refused = JobStatus::from_response(&answer(&refused)).unwrap_err();
    assert!(
        matches!(
            refused,
            ApiError::Refused {
                code: Some(404),
                ..
            }
        ),
        "{refused:?}"
    );
    let mut unavailable = answer(&batch);
    *unavailable.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    let refused = JobStatus::from_response(&unavailable).unwrap_err();
    assert!(
        matches!(
            refused,
            ApiError::Refused {
                http_status: 503,
                ..
            }
        ),
        "{refused:?}"
    );
}

#[test]
fn an_answer_that_is_no_object_is_unreadable() {
    for body in ["", "[]", "null", "\"completed\"", "<html>", "{"] {
        let error = JobStatus::from_response(&Response::new(body)).unwrap_err();
        assert!(
            matches!(error, ApiError::Unreadable { .. }),
            "{body}: {error:?}"
        );
    }
}

#[test]
fn the_place_of_the_output_is_found_where_the_service_writes_it() {
    let file = Some(JobOutput::File(Resource::file("1").unwrap()));
    let lines = vec![json!({"response": {"a": 1}}), json!({"error": {"code": 3}})];
    let inline = Some(JobOutput::Inline(lines.clone()));
    let elsewhere = Some(JobOutput::Other("gs://bucket/a".into()));
    for (place, expected) in [
        (json!({"responsesFile": "files/1"}), file.clone()),
        (json!({"responses_file": "files/1"}), file),
        (
            json!({"inlinedResponses": {"inlinedResponses": lines}}),
            inline.clone(),
        ),
        (
            json!({"inlined_responses": {"inlined_responses": lines}}),
            inline.clone(),
        ),
        (json!({"inlinedResponses": lines}), inline),
        (json!({"responsesFile": "gs://bucket/a"}), elsewhere),
        (
            json!({"responsesFile": "files/.."}),
            Some(JobOutput::Other("files/..".into())),
        ),
        (
            json!({"responsesFile": "batches/1"}),
            Some(JobOutput::Other("batches/1".into())),
        ),
        (json!({"responsesFile": "", "inlinedResponses": {}}), None),
        (json!({"responsesFile": null, "inlinedResponses": 7}), None),
    ] {
        let mut in_response = batch("BATCH_STATE_SUCCEEDED");
        in_response["response"] = place.clone();
        assert_eq!(status(&in_response).output, expected, "{place}");
        let mut in_metadata = batch("BATCH_STATE_SUCCEEDED");
        in_metadata["metadata"]["output"] = place.clone();
        assert_eq!(status(&in_metadata).output, expected, "{place}");
        in_metadata["response"] = json!({"@type": "GenerateContentBatch"});
        assert_eq!(status(&in_metadata).output, expected, "{place}");
    }
}

#[test]
fn responses_and_secrets_are_not_shown() {
    let mut batch = batch("gwj1_AAAA");
    batch["error"] = json!({"code": "whsec_C2FV", "message": "see https://host/a?key=hunter2"});
    batch["response"] = json!({"inlinedResponses": ["hunter2", "hunter2"]});
    let shown = format!("{:?}", status(&batch));
    assert!(shown.contains("Inline(2 responses)"), "{shown}");
    for secret in ["AAAA", "C2FV", "hunter2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    batch["response"] = json!({"responsesFile": "https://host/a?key=hunter2"});
    let shown = format!("{:?}", status(&batch));
    assert!(
        shown.contains("Other") && !shown.contains("hunter2"),
        "{shown}"
    );
}
