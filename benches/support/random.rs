//! Ids as Google's, which are UUIDs: each touches another page of a store.

use std::{
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use rusqlite::Connection;

/// Returns an id that no other call of this process returns.
pub(crate) fn random_id() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    static SEED: LazyLock<u64> = LazyLock::new(|| {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        now.as_secs() << 32 | u64::from(now.subsec_nanos())
    });
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let [a, b] = [2 * number, 2 * number + 1].map(|number| splitmix(*SEED ^ number));
    let (c, d) = (a & 0xffff_ffff, b >> 48);
    format!(
        "{c:08x}-{:04x}-4{:03x}-{d:04x}-{:012x}",
        a >> 48,
        a >> 36 & 0xfff,
        b << 16 >> 16
    )
}

/// One to one, so that no number comes twice.
fn splitmix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Adds keys that are done, and to be remembered until 2100.
pub(crate) fn fill(path: &Path, rows: usize) {
    const FORGET_AT: i64 = 4_102_444_800_000;
    let mut connection = Connection::open(path).unwrap();
    let transaction = connection.transaction().unwrap();
    let insert = "INSERT INTO gemini_webhook_deliveries VALUES ('/' || ?1, 1, 1, 0, ?2)";
    for _ in 0..rows {
        let mut insert = transaction.prepare_cached(insert).unwrap();
        insert.execute((random_id(), FORGET_AT)).unwrap();
    }
    transaction.commit().unwrap();
}
