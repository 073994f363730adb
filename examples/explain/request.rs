//! Requests as people save them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::BoxError;

#[derive(Default)]
pub(crate) struct Request {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) arrived_at: Option<OffsetDateTime>,
}

impl Request {
    fn is_webhook(&self) -> bool {
        let mut names = self.headers.iter().map(|(name, _)| name);
        names.any(|name| {
            // Under whatever name something on the way has given it.
            let name = name.to_ascii_lowercase();
            name.contains("webhook") || name.starts_with("svix-")
        })
    }

    fn add(&mut self, line: &[u8]) -> Result<(), BoxError> {
        let colon = line.iter().position(|byte| *byte == b':');
        let split = colon.and_then(|colon| line.split_at_checked(colon));
        let (name, value) = split.ok_or_else(|| {
            let line = String::from_utf8_lossy(line);
            format!("this is no header, which would be `name: value`: {line}")
        })?;
        let name = str::from_utf8(name)?.trim().to_owned();
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        self.headers.push((name, value.to_vec()));
        Ok(())
    }
}

/// At least one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Request>, BoxError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let bytes = bytes.trim_ascii_start();
    match bytes {
        [] => Err("it is empty".into()),
        [b'{' | b'[', ..] => json(bytes),
        [b'c', b'u', b'r', b'l', next, ..] if next.is_ascii_whitespace() => {
            Ok(vec![curl(str::from_utf8(bytes)?)?])
        }
        _ => Ok(vec![http(bytes)?]),
    }
}

fn http(bytes: &[u8]) -> Result<Request, BoxError> {
    let mut request = Request::default();
    let mut rest = bytes;
    let mut first = true;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end);
        rest = after.strip_prefix(b"\n").unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_request_line = line.windows(6).any(|part| part == b" HTTP/");
        if line.is_empty() {
            request.body = rest.to_vec();
            return Ok(without_added_end(request));
        }
        if !(first && is_request_line) {
            request.add(line)?;
        }
        first = false;
    }
    Err("there is no empty line between the headers and the body".into())
}

/// Editors add a line break at the end of a file, which `Content-Length` shows not to be the body's.
fn without_added_end(mut request: Request) -> Request {
    let mut lengths = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths
        .next()
        .and_then(|(_, value)| str::from_utf8(value).ok()?.parse().ok())
        .unwrap_or(usize::MAX);
    if let Some(b"\n" | b"\r\n") = request.body.get(length..) {
        request.body.truncate(length);
    }
    request
}

fn curl(command: &str) -> Result<Request, BoxError> {
    // As browsers write it, to escape what is in it.
    if command.contains(" $'") {
        return Err(
            "this command has $'..': put the body into a file, and its name after \
                    `--data-binary @`"
                .into(),
        );
    }
    let words = shlex::split(command).ok_or("a quotation mark of the command is not closed")?;
    let mut request = Request::default();
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if word.starts_with("--") => (option, Some(value.to_owned())),
            _ if word.starts_with("--") => (&*word, None),
            // `-H'name: value'`
            _ => match word.split_at_checked(2) {
                Some((option @ ("-H" | "-d"), value)) if !value.is_empty() => {
                    (option, Some(value.to_owned()))
                }
                _ => (&*word, None),
            },
        };
        let mut value = || {
            let value = value.clone().or_else(|| words.next());
            value.ok_or_else(|| format!("{option} has no value"))
        };
        match option {
            "-H" | "--header" => request.add(value()?.as_bytes())?,
            "--data-raw" => add_data(&mut request.body, value()?.as_bytes()),
            "-d" | "--data" | "--data-ascii" | "--data-binary" => {
                let value = value()?;
                let Some(file) = value.strip_prefix('@') else {
                    add_data(&mut request.body, value.as_bytes());
                    continue;
                };
                let mut data = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
                if option != "--data-binary" {
                    data.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
                }
                add_data(&mut request.body, &data);
            }
            _ => {}
        }
    }
    Ok(request)
}

/// `curl` joins what it is given with an ampersand.
fn add_data(body: &mut Vec<u8>, data: &[u8]) {
    if !body.is_empty() {
        body.push(b'&');
    }
    body.extend_from_slice(data);
}

fn json(bytes: &[u8]) -> Result<Vec<Request>, BoxError> {
    let json: Value = serde_json::from_slice(bytes)?;
    let mut found = Vec::new();
    find(&json, None, &mut found)?;
    if found.len() > 1 {
        found.retain(Request::is_webhook);
    }
    if found.is_empty() {
        return Err("there is no request with a `webhook-` header in it".into());
    }
    Ok(found)
}

/// Finds what has `headers` in an archive, in a list, or by itself.
fn find(
    json: &Value,
    arrived_at: Option<OffsetDateTime>,
    found: &mut Vec<Request>,
) -> Result<(), BoxError> {
    let entries = json.pointer("/log/entries").unwrap_or(json);
    if let Some(entries) = entries.as_array() {
        for entry in entries {
            find(entry, None, found)?;
        }
    } else if let Some(request) = json.get("request") {
        let started = json.get("startedDateTime").and_then(Value::as_str);
        let started = started.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        find(request, started, found)?;
    } else if let Some(headers) = ["multiValueHeaders", "headers"]
        .into_iter()
        .filter_map(|name| json.get(name))
        .find(|headers| !headers.is_null())
    {
        found.push(Request {
            headers: header_pairs(headers)?,
            body: body(json)?,
            arrived_at,
        });
    }
    Ok(())
}

/// From `[{"name": .., "value": ..}]` or `{name: value}` or `{name: [value, ..]}`.
fn header_pairs(headers: &Value) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
    let mut pairs = Vec::new();
    let mut add = |name: &str, value: &Value| match value.as_str() {
        Some(value) => {
            pairs.push((name.to_owned(), value.as_bytes().to_vec()));
            Ok(())
        }
        None => Err(format!("the header {name} is not a text")),
    };
    match headers {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::Array(values) => values.iter().try_for_each(|value| add(name, value))?,
                    value => add(name, value)?,
                }
            }
        }
        Value::Array(list) => {
            for header in list {
                let name = header["name"].as_str().ok_or("a header has no name")?;
                add(name, &header["value"])?;
            }
        }
        _ => return Err("`headers` are neither an object nor a list".into()),
    }
    Ok(pairs)
}

fn body(request: &Value) -> Result<Vec<u8>, BoxError> {
    let posted = request.get("postData");
    let body = posted.map_or_else(|| request.get("body"), |posted| posted.get("text"));
    let encoded = posted.is_some_and(|posted| posted["encoding"] == "base64")
        || request.get("isBase64Encoded") == Some(&Value::Bool(true));
    match body {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if encoded => Ok(BASE64_STANDARD.decode(text)?),
        Some(Value::String(text)) => Ok(text.as_bytes().to_vec()),
        // Parsed by whoever saved it.
        Some(json) => Ok(json.to_string().into_bytes()),
    }
}
