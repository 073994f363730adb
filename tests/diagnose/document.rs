//! The table of mistakes in `docs/troubleshooting.md` is what the diagnosis says.

use std::{env, fmt::Write as _, fs, path::Path};

use gemini_webhooks::diagnose::Finding;

use super::cases;

const BEGIN: &str =
    "<!-- The tables are written by `REWRITE_DOCUMENTS=1 cargo test --test diagnose`. -->\n";
const END: &str = "<!-- The end of the tables. -->\n";

const BODY: &str = "
Those that are not suspected stand between `the body is not the one that was signed:` and
`: verify the bytes as they were received`.
";

const SECRET: &str = "
They come after `signing secret 1 is not right:`, where 1 is the position among the texts that were given.
";

fn said(finding: &Finding) -> String {
    let said = match finding {
        Finding::BodyChanged { change } => change.clone(),
        Finding::SecretMisread { slip, .. } => slip.clone(),
        finding => finding.to_string(),
    };
    assert!(finding.to_string().contains(&said));
    said.replace('|', "\\|")
}

fn tables() -> String {
    let mut text = String::new();
    for (part, cases) in cases::all() {
        let rows = "| mistake | what `diagnose` says |\n|---|---|";
        let around = match part {
            "The body" => BODY,
            "The signing secret" => SECRET,
            _ => "",
        };
        writeln!(text, "\n## {part}\n{around}\n{rows}").unwrap();
        let mut rows: Vec<(&str, String)> = Vec::new();
        for case in cases {
            let headers = case.headers.iter().map(|(name, value)| (name, value));
            let diagnosis = case
                .verifier
                .diagnose_with(&case.clues, headers, &case.body);
            let findings = diagnosis.findings.iter();
            let said: Vec<_> = findings.map(said).collect();
            rows.push((case.mistake, said.join("<br>")));
        }
        let mut last = "";
        for (position, (mistake, said)) in rows.iter().enumerate() {
            if rows[..position].iter().any(|row| row == &rows[position]) {
                continue;
            }
            // The others of one mistake stand below it.
            let mistake = if *mistake == last { "" } else { mistake };
            writeln!(text, "| {mistake} | {said} |").unwrap();
            last = rows[position].0;
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_document_has_each_mistake_and_what_is_said() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect(BEGIN);
    let (found, after) = rest.split_once(END).expect(END);
    let expected = tables();
    if env::var_os("REWRITE_DOCUMENTS").is_some() {
        fs::write(&path, [before, BEGIN, &expected, END, after].concat()).unwrap();
        return;
    }
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "rewrite it with REWRITE_DOCUMENTS=1");
    }
    assert_eq!(found, expected, "rewrite it with REWRITE_DOCUMENTS=1");
}
