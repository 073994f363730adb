use super::*;

const VECTOR: &str = "gwj1_AAECAwQFBgcICQoLDA0ODwAAAABrSdIAbmlnaHRseS1ldmFsUdaNfkap7uNphWd1NwuCux3AL0fcYl-2cYu-NulslQk";
const EXPIRY: u64 = 1_800_000_000;

fn context(tokens: &JobTokens, token: &str) -> Option<String> {
    tokens.verify(token).map(|token| token.context)
}

fn tokens() -> JobTokens {
    JobTokens::new([7; 32])
}

#[test]
fn the_documented_vector_is_made_and_accepted() {
    let nonce = std::array::from_fn(|index| u8::try_from(index).unwrap());
    assert_eq!(tokens().mint_with(nonce, EXPIRY, "nightly-eval"), VECTOR);
    let token = tokens().verify(VECTOR).unwrap();
    assert_eq!((token.nonce, token.expiry), (nonce, EXPIRY));
    assert_eq!(token.context, "nightly-eval");
}

#[test]
fn a_token_is_accepted_under_the_key_that_made_it() {
    let token = tokens().mint_for("nightly").unwrap();
    assert_eq!(context(&tokens(), &token).as_deref(), Some("nightly"));
    let other = JobTokens::new([8; 32]);
    assert_eq!(context(&other, &token), None);
    assert_eq!(
        context(&other.clone().or_made_by(tokens()), &token).as_deref(),
        Some("nightly")
    );
    let minted = other.clone().or_made_by(tokens()).mint().unwrap();
    assert_eq!(context(&other, &minted).as_deref(), Some(""));
}

#[test]
fn tokens_differ() {
    assert_ne!(tokens().mint().unwrap(), tokens().mint().unwrap());
}

#[test]
fn any_changed_character_is_noticed() {
    for at in 0..VECTOR.len() {
        for replacement in ["A", "B", "_", "=", ".", " ", ""] {
            let mut changed = VECTOR.to_owned();
            changed.replace_range(at..=at, replacement);
            let genuine = tokens().verify(&changed).is_some();
            assert_eq!(genuine, changed == VECTOR, "{changed}");
        }
    }
}

#[test]
fn contexts_are_bounded() {
    let longest = "\u{e9}".repeat(64);
    let token = tokens().mint_for(&longest).unwrap();
    assert_eq!(context(&tokens(), &token), Some(longest));
    let error = tokens().mint_for(&"a".repeat(129)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the context has 129 bytes, 128 are allowed"
    );
    let too_long = tokens().mint_with([0; NONCE], EXPIRY, &"a".repeat(129));
    assert_eq!(context(&tokens(), &too_long), None);
    for junk in [
        "",
        "gwj1_",
        "gwj1_AAAA",
        &format!("gwj1_{}", "A".repeat(1 << 20)),
    ] {
        assert_eq!(context(&tokens(), junk), None);
    }
}

#[test]
fn keys_are_parsed_from_base64() {
    let encoded = encoding::encode(&[7; 32]);
    assert!(JobTokens::parse(&encoded).unwrap().verify(VECTOR).is_some());
    assert!(JobTokens::parse(&encoding::encode(&[7; 200])).is_ok());
    for bad in [
        String::new(),
        encoding::encode(&[7; 31]),
        format!("{encoded}\n"),
        encoding::encode(&[7; 2000]),
    ] {
        assert!(JobTokens::parse(&bad).is_err(), "{bad}");
    }
    assert_eq!(format!("{:?}", tokens()), "JobTokens(..)");
}

#[test]
fn tokens_are_valid_for_30_days_unless_set() {
    let now = time::OffsetDateTime::now_utc()
        .unix_timestamp()
        .unsigned_abs();
    for (tokens, days) in [
        (tokens(), 30),
        (tokens().valid_for(Duration::from_secs(86_400)), 1),
    ] {
        let expiry = tokens.verify(&tokens.mint().unwrap()).unwrap().expiry;
        assert!(
            (now..now + 60).contains(&(expiry - days * 86_400)),
            "{expiry}"
        );
    }
    let for_ever = tokens().valid_for(Duration::MAX);
    assert!(for_ever.verify(&for_ever.mint().unwrap()).is_some());
}

#[test]
fn a_token_is_added_to_a_callback_uri_and_found_in_it() {
    for (uri, expected) in [
        ("https://e.com/w", "https://e.com/w?gemini_webhooks_job=T"),
        ("https://e.com/w?", "https://e.com/w?gemini_webhooks_job=T"),
        (
            "https://e.com/w?a=b",
            "https://e.com/w?a=b&gemini_webhooks_job=T",
        ),
        (
            "https://e.com/w?a=b&",
            "https://e.com/w?a=b&gemini_webhooks_job=T",
        ),
        (
            "https://e.com/w#f",
            "https://e.com/w?gemini_webhooks_job=T#f",
        ),
        (
            "https://e.com/w#f?a",
            "https://e.com/w?gemini_webhooks_job=T#f?a",
        ),
    ] {
        let uri = JobTokens::callback_uri(uri, "T");
        assert_eq!(uri, expected);
        let query = uri.split(['?', '#']).nth(1).unwrap();
        assert_eq!(in_query(query).collect::<Vec<_>>(), ["T"]);
    }
    assert_eq!(
        in_query("a=b&x_gemini_webhooks_job=T&gemini_webhooks_job").count(),
        0
    );
    assert_eq!(
        in_query("gemini_webhooks_job=A&gemini_webhooks_job=B").count(),
        2
    );
}

#[test]
fn a_redacted_text_holds_no_token() {
    let token = tokens().mint_for("nightly").unwrap();
    for (text, expected) in [
        (
            format!("/w?gemini_webhooks_job={token}"),
            "/w?gemini_webhooks_job=..",
        ),
        (
            format!("/w?a=1&gemini_webhooks_job={token}&b=2#f"),
            "/w?a=1&gemini_webhooks_job=..&b=2#f",
        ),
        (
            "/w?gemini_webhooks_job=other".into(),
            "/w?gemini_webhooks_job=..",
        ),
        (
            format!("{token} {token}, /w?gemini_webhooks_job={token}"),
            ".. .., /w?gemini_webhooks_job=..",
        ),
        (
            "/w?gemini_webhooks_job=".into(),
            "/w?gemini_webhooks_job=..",
        ),
        ("/webhook?a=b".into(), "/webhook?a=b"),
        (String::new(), ""),
        ("gwj1_".into(), ".."),
        (
            "/w?gemini%5Fwebhooks%5fjob=gwj1%5FAAAA&a".into(),
            "/w?gemini%5Fwebhooks%5fjob=..&a",
        ),
        (
            "gwj1%5FAAAA%5FAAAA gwj1 gg gemini_webhooks_job".into(),
            ".. gwj1 gg gemini_webhooks_job",
        ),
        ("\u{e9}gwj1_A\u{e9}".into(), "\u{e9}..\u{e9}"),
    ] {
        assert_eq!(JobTokens::redact(&text), expected, "{text}");
    }
}

/// The lines of Python and JavaScript in the documentation mint what is accepted here.
#[test]
fn the_documented_lines_of_other_languages_mint_tokens() {
    let source = include_str!("../job_tokens.rs");
    let lines = |language: &str| {
        let start = format!("/// ```{language}\n");
        let code = source.split_once(&start).unwrap().1;
        let code = code.split_once("/// ```").unwrap().0;
        let lines = code.lines().map(|line| line.trim_start_matches("///"));
        lines
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .fold(String::new(), |code, line| code + line + "\n")
    };
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output();
        let output = match output {
            Ok(output) => output,
            Err(_) if std::env::var_os("REQUIRE_SERVERS").is_none() => return None,
            Err(error) => panic!("{program}: {error}"),
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {errors}");
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let python = lines("python") + "print(mint(bytes([7]) * 32, 'nightly-\u{e9}'))";
    let javascript =
        lines("javascript") + "console.log(mint(Buffer.alloc(32, 7), 'nightly-\u{e9}'));";
    for minted in [
        run("python3", &["-c", &python]),
        run("node", &["--input-type=module", "-e", &javascript]),
    ]
    .into_iter()
    .flatten()
    {
        let token = tokens().verify(&minted).expect(&minted);
        assert_eq!(token.context, "nightly-\u{e9}");
        let now = time::OffsetDateTime::now_utc()
            .unix_timestamp()
            .unsigned_abs();
        assert!(
            token.expiry.abs_diff(now + 30 * 86_400) < 60,
            "{}",
            token.expiry
        );
    }
}
