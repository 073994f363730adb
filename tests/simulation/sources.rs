//! Nothing that a fleet runs reads a clock, a random number or the environment by itself.

use std::{fs, path::Path};

const READS: [&str; 9] = [
    "SystemTime::now",
    "Instant::now",
    "OffsetDateTime::now",
    "thread::sleep",
    "tokio::time",
    "futures_timer::",
    "getrandom::",
    "RandomState",
    "env::var",
];

/// The places where it is allowed: two files that a test can control, and the network, which a fleet
/// does not use.
const ALLOWED: [&str; 8] = [
    "src/clock.rs",
    "src/random.rs",
    "src/store/postgres",
    "src/store/redis",
    "src/per_request/keys/endpoint.rs",
    "src/configure/client.rs",
    "src/https",
    // It waits for other processes that hold the lock on a file.
    "src/store/sqlite/writer.rs: thread::sleep",
];

fn look(directory: &Path, found: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            look(&path, found);
            continue;
        }
        let name = path
            .strip_prefix(env!("CARGO_MANIFEST_DIR"))
            .unwrap()
            .to_str()
            .unwrap();
        if path.extension().is_none_or(|it| it != "rs") || name.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code = code.split("#[cfg(all(test").next().unwrap();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for read in READS {
            let reads = lines.clone().any(|line| line.contains(read));
            let place = format!("{name}: {read}");
            if reads && !ALLOWED.iter().any(|allowed| place.starts_with(allowed)) {
                found.push(place);
            }
        }
    }
}

#[test]
fn no_clock_no_random_number_and_no_environment_is_read_elsewhere() {
    let mut found = Vec::new();
    look(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert_eq!(found, Vec::<String>::new());
}
