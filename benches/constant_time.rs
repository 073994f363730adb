//! Whether the time of a comparison tells how much of a forged signature is right:
//! `cargo bench --bench constant_time`
//!
//! In the manner of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", 2017):
//! two classes of forged signatures, one right but for its last byte and one wrong from the first on,
//! are refused in random order; the times are cropped at several percentiles, and compared with
//! Welch's t-test. Prints `t_value NAME VALUE of N measurements, limit 4.5 ok|over`: above 4.5 the
//! classes differ. `noise` compares two wrong ones, and `control` a comparison that stops at the first
//! difference, to show that it would be seen.

mod support;

use std::{hint::black_box, time::Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gemini_webhooks::{Attempt, Secret, Verifier, testing::Signer};
use time::OffsetDateTime;

use support::{ID, SECRET, SIZES, body};

const MEASUREMENTS: usize = 1_000_000;
const LIMIT: f64 = 4.5;
/// Of each class, so that both take the same room in the caches.
const VARIANTS: usize = 64;

/// Of Marsaglia: for an order that nothing predicts, and no more.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

#[derive(Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let from_mean = value - self.mean;
        self.mean += from_mean / self.count;
        self.squares += from_mean * (value - self.mean);
    }

    /// Of the mean.
    fn variance(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

fn t_value(times: &[[f64; 2]], crop: f64) -> f64 {
    let mut classes = [Moments::default(), Moments::default()];
    for [class, nanoseconds] in times {
        if *nanoseconds <= crop {
            classes[usize::from(*class > 0.5)].add(*nanoseconds);
        }
    }
    let [a, b] = classes;
    ((a.mean - b.mean) / (a.variance() + b.variance()).sqrt()).abs()
}

/// `forged` has the signatures of each class.
fn measure(name: &str, forged: &[Vec<String>; 2], refuse: impl Fn(&str)) {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut times = Vec::with_capacity(MEASUREMENTS);
    // Each signature is put here first: where in memory it lies is not what is to be seen.
    let mut signature = String::new();
    for _ in 0..MEASUREMENTS {
        let class = random.below(2);
        signature.clear();
        signature.push_str(&forged[class][random.below(VARIANTS)]);
        let begun = Instant::now();
        refuse(black_box(&signature));
        let nanoseconds = begun.elapsed().as_secs_f64() * 1e9;
        times.push([if class == 0 { 0.0 } else { 1.0 }, nanoseconds]);
    }
    // The first of them warm up.
    let times = &times[MEASUREMENTS / 100..];
    let mut sorted: Vec<f64> = times.iter().map(|[_, nanoseconds]| *nanoseconds).collect();
    sorted.sort_by(f64::total_cmp);
    // Interruptions lie in the tail and hide what there is to be seen.
    let crops = [50, 90, 99, 100].map(|percent| sorted[(sorted.len() - 1) * percent / 100]);
    let worst = crops
        .map(|crop| t_value(times, crop))
        .into_iter()
        .fold(0.0, f64::max);
    let verdict = if worst <= LIMIT { "ok" } else { "over" };
    println!(
        "t_value {name} {worst:.2} of {} measurements, limit {LIMIT} {verdict}",
        times.len()
    );
}

/// Signatures that begin with the bytes of each and vary in the last one, which is never right.
fn forge(starts: [&[u8]; 2], right: &[u8]) -> [Vec<String>; 2] {
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    let mut classes = [Vec::new(), Vec::new()];
    for _ in 0..VARIANTS {
        let last = right[right.len() - 1] ^ (random.byte() | 1);
        for (class, start) in classes.iter_mut().zip(starts) {
            let tag = [&start[..right.len() - 1], &[last]].concat();
            class.push(format!("v1,{}", BASE64_STANDARD.encode(tag)));
        }
    }
    classes
}

fn main() {
    let secret = Secret::parse(SECRET).unwrap();
    let signer = Signer::v1(&secret);
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let now = OffsetDateTime::now_utc();
    let sent = signer.sign(ID, now, body(SIZES[0]));
    let right = BASE64_STANDARD
        .decode(&sent.signature["v1,".len()..])
        .unwrap();
    let mut random = Xorshift(0x0123_4567_89ab_cdef);
    let mut wrong = || -> Vec<u8> {
        right
            .iter()
            .map(|byte| byte ^ (random.byte() | 1))
            .collect()
    };
    let [wrong, other] = [wrong(), wrong()];

    let refuse = |signature: &str| {
        let attempt = Attempt::new(&sent.id, &sent.timestamp, signature).unwrap();
        let refused = verifier.verify_at(attempt, &sent.body, now);
        assert!(black_box(refused).is_err());
    };
    // Both are wrong: what this finds is the noise of the measurement.
    measure("noise", &forge([&wrong, &other], &right), refuse);
    let forged = forge([&right, &wrong], &right);
    measure("v1_tag", &forged, refuse);
    measure("control", &forged, |forged| {
        // Over and over, to be as long as the others.
        for _ in 0..10 {
            let mut bytes = forged.bytes().zip(sent.signature.bytes());
            let differs = bytes.position(|(a, b)| black_box(a) != b);
            assert!(black_box(differs).is_some());
        }
    });
}
