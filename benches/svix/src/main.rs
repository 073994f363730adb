//! What verifying costs with `svix`, beside this crate: lines as those of `ratios`.

#[path = "../../support/mod.rs"]
mod support;
#[path = "../../support/timing.rs"]
mod timing;

use std::hint::black_box;

use ::time::OffsetDateTime;
use gemini_webhooks::{Secret, Verifier, testing::Signer};

use support::{ID, SECRET, SIZES, body, headers, verify};
use timing::{pair, time};

fn main() {
    let secret = Secret::parse(SECRET).unwrap();
    let signer = Signer::v1(&secret);
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let peer = svix::webhooks::Webhook::new(SECRET).unwrap();
    for length in SIZES {
        let sent = signer.sign(ID, OffsetDateTime::now_utc(), body(length));
        let map = headers(&sent);
        let against = pair(
            || peer.verify(black_box(&sent.body), black_box(&map)).unwrap(),
            || verify(&verifier, &map, &sent),
        );
        let verdict = if against.ratio >= 5.0 { "ok" } else { "over" };
        println!(
            "ratio svix/v1_verify_{length} {:.3} target 5 {verdict}",
            against.ratio
        );
        time(&format!("svix_{length}"), against.nanoseconds[0]);
    }
}
