//! A body inside something else.

use base64::{Engine as _, prelude::*};
use serde_json::{Value, json};

use super::{
    Case,
    bodies::{COMPACT, case},
};

/// Percent-encodes everything but letters and digits.
fn percent(text: &str, space: &str) -> String {
    let encode = |byte: u8| match byte {
        b' ' => space.to_owned(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn cases() -> Vec<Case> {
    let base64 = BASE64_STANDARD.encode(COMPACT);
    let quoted = json!(COMPACT).to_string();
    let lambda =
        "the whole event of an AWS Lambda function (API Gateway, ALB), or `{\"body\": ...}`";
    let form = "sent as a form (`payload=...`), or parsed as one";
    let list = "a `Vec<u8>` written as JSON, or a `Buffer` of Node.js";
    let string = "written as a JSON string, once or twice, or with its quotation marks escaped";
    vec![
        case(
            string,
            COMPACT,
            &quoted,
            "it was put into JSON, as a string",
        ),
        case(
            string,
            COMPACT,
            json!(quoted).to_string(),
            "as a string, twice",
        ),
        case(
            string,
            COMPACT,
            quoted.trim_matches('"'),
            "its quotation marks were escaped",
        ),
        case(
            lambda,
            COMPACT,
            json!({"httpMethod": "POST", "body": COMPACT, "isBase64Encoded": false}).to_string(),
            "the `body` in an event of an AWS Lambda function",
        ),
        case(
            lambda,
            COMPACT,
            json!({"requestContext": {"elb": {}}, "body": base64, "isBase64Encoded": true})
                .to_string(),
            "another JSON object, in base64",
        ),
        case(
            lambda,
            COMPACT,
            json!({"body": serde_json::from_str::<Value>(COMPACT).unwrap()}).to_string(),
            "another JSON object, parsed",
        ),
        case(
            "a whole message of Pub/Sub",
            COMPACT,
            json!({"message": {"data": base64, "messageId": "1"}, "subscription": "a"}).to_string(),
            "the `data` of a Pub/Sub message, in base64",
        ),
        case(
            "a whole message of Amazon SQS, SNS or EventBridge",
            COMPACT,
            json!({"Records": [{"messageId": "1", "body": COMPACT}]}).to_string(),
            "Amazon SQS",
        ),
        case(
            "inside other JSON, as a string or in base64",
            COMPACT,
            json!({"a": [{"b": BASE64_URL_SAFE_NO_PAD.encode(COMPACT)}]}).to_string(),
            "inside other JSON, in base64",
        ),
        case(
            list,
            COMPACT,
            serde_json::to_string(COMPACT.as_bytes()).unwrap(),
            "as a list of numbers",
        ),
        case(
            list,
            COMPACT,
            json!({"type": "Buffer", "data": COMPACT.as_bytes()}).to_string(),
            "as a list of numbers",
        ),
        case(
            form,
            COMPACT,
            format!("payload={}", percent(COMPACT, "+")),
            "a field of a form",
        ),
        case(
            form,
            COMPACT,
            format!("payload={}&a=b", percent(COMPACT, "%20")),
            "a field of a form",
        ),
        case(
            form,
            COMPACT,
            format!("payload={COMPACT}"),
            "a field of a form",
        ),
        case(
            form,
            COMPACT,
            format!("{}=", percent(COMPACT, "+")),
            "the name of a field",
        ),
        case(
            form,
            COMPACT,
            percent(COMPACT, "%20"),
            "it was percent-encoded",
        ),
    ]
}
