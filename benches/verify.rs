//! What verifying costs, beside the HMAC that it can't do without and the official library.
//!
//! `cargo bench --bench verify`

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemini_webhooks::{Event, Secret, Verifier, testing};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use time::OffsetDateTime;

use support::{ID, SECRET, SIZES, body, content, headers, verify};

fn v1(c: &mut Criterion) {
    let secret = Secret::parse(SECRET).unwrap();
    let signer = testing::Signer::v1(&secret);
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let official = standardwebhooks::Webhook::new(SECRET).unwrap();
    let keyed = Hmac::<Sha256>::new_from_slice(b"any key will do: it is not timed").unwrap();

    let mut group = c.benchmark_group("v1");
    for length in SIZES {
        let sent = signer.sign(ID, OffsetDateTime::now_utc(), body(length));
        let headers = headers(&sent);
        let content = content(&sent);
        let tag: [u8; 32] = keyed
            .clone()
            .chain_update(&content)
            .finalize()
            .into_bytes()
            .into();

        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("bare_hmac", length), |b| {
            b.iter(|| {
                keyed
                    .clone()
                    .chain_update(black_box(&content))
                    .verify_slice(&tag)
                    .unwrap();
            });
        });
        group.bench_function(BenchmarkId::new("verify", length), |b| {
            b.iter(|| verify(&verifier, &headers, &sent));
        });
        group.bench_function(BenchmarkId::new("verify_event", length), |b| {
            b.iter(|| -> Event {
                let delivery = verifier
                    .verify(black_box(&headers), black_box(&sent.body))
                    .unwrap();
                delivery.into_event().unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("standardwebhooks", length), |b| {
            b.iter(|| {
                official
                    .verify(black_box(&sent.body), black_box(&headers))
                    .unwrap();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1));
    targets = v1
}
criterion_main!(benches);
