//! The plans of an inbox's statements on PostgreSQL, which explains them as they run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use deadpool_postgres::tokio_postgres::Client;
use gemini_webhooks::{
    Inbox,
    receiver::{HandlerError, Received},
    store::PostgresStore,
};

use crate::{
    fixture::client,
    inbox::{Site, code, now, until, verifier},
};

/// Those that are due, those that are due later, and dead letters; in this inbox and in another.
const FILL: &str = "
    INSERT INTO gemini_webhook_inbox
        (namespace, key, received_at, fencing_token, due_at, died_at, forget_at, cause, envelope, payload)
    SELECT namespace, namespace || '/old_' || number, now(), 1,
           CASE WHEN number % 10 > 0 THEN now() + make_interval(secs => CASE number % 2 WHEN 0 THEN -60 ELSE 3600 END) END,
           CASE WHEN number % 10 = 0 THEN now() END,
           CASE WHEN number % 10 = 0 THEN now() + make_interval(secs => number % 20 * 1000 - 5000) END,
           CASE WHEN number % 10 = 0 THEN 'no luck' END,
           '{\"id\":\"msg\",\"attempted_at\":1,\"scheme\":\"v1\",\"retention\":1}',
           convert_to('{\"type\":\"batch.succeeded\",\"data\":{\"id\":\"' || repeat('x', 200) || '\"}}', 'UTF8')
    FROM unnest(ARRAY['', 'other']) AS namespace, generate_series(1, 60000) AS number;
    INSERT INTO gemini_webhook_deliveries
    SELECT key, 1, true, now(), now() + make_interval(days => 1) FROM gemini_webhook_inbox;
    VACUUM ANALYZE gemini_webhook_inbox;
    VACUUM ANALYZE gemini_webhook_deliveries;
";

/// The lines of the plans that the server has logged since then.
struct Log {
    path: PathBuf,
    seen: usize,
}

impl Log {
    async fn of(client: &Client) -> Self {
        let row = client.query_one("SHOW data_directory", &[]).await.unwrap();
        let path = Path::new(row.get::<_, &str>(0)).with_file_name("server.log");
        let seen = fs::read(&path).unwrap().len();
        Self { path, seen }
    }

    fn take(&mut self) -> Vec<String> {
        let log = fs::read(&self.path).unwrap();
        let new = String::from_utf8_lossy(&log[self.seen..]);
        let lines = new.lines().map(str::to_owned).collect();
        self.seen = log.len();
        lines
    }
}

/// The rows that a step of a plan has returned, in all its loops.
fn rows(step: &str) -> f64 {
    let (_, actual) = step.split_once("(actual time=").unwrap_or_default();
    let number = |name| {
        let (_, rest) = actual.split_once(name)?;
        rest.split([' ', ')']).next()?.parse::<f64>().ok()
    };
    number(" rows=").unwrap_or_default() * number(" loops=").unwrap_or_default()
}

/// More often than PostgreSQL plans a statement for its values.
const TIMES: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_an_inbox_on_postgresql_reads_a_table_from_end_to_end() {
    let Some(place) = Site::postgres().await else {
        return;
    };
    place.inbox.check().await.unwrap();
    let client = client(&place.url).await;
    for statement in FILL.split_inclusive(';') {
        client.batch_execute(statement).await.unwrap();
    }
    let settings = [
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_analyze=on",
    ];
    let settings = settings.map(|setting| format!("%20-c{}", setting.replace('=', "%3D")));
    let url = format!("{}{}", place.url, settings.concat());
    let store = PostgresStore::connect(&url).unwrap();
    let inbox = Inbox::builder(verifier(), store).build().unwrap();
    inbox.check().await.unwrap();
    let mut log = Log::of(&client).await;
    // Each of these is used, and no scan returns more rows than that.
    let mut look = |operation: &str, indexes: &[&str], most: f64| {
        let lines = log.take();
        for index in indexes {
            let uses = |line: &String| line.contains(&format!("using gemini_webhook_{index}"));
            assert!(lines.iter().any(uses), "{operation} does not use {index}");
        }
        for line in lines
            .iter()
            .filter(|line| line.contains(" on gemini_webhook_"))
        {
            assert!(!line.contains("Seq Scan"), "{operation}: {line}");
            assert!(rows(line) <= most, "{operation}: {line}");
        }
        // An index that has it all the same, from end to end.
        let filtered = |line: &&String| line.contains("Rows Removed by Filter: ");
        for line in lines.iter().filter(filtered) {
            let (_, removed) = line.split_once(": ").unwrap();
            assert!(removed.parse::<u32>().unwrap() <= 64, "{operation}: {line}");
        }
    };

    for number in 0..TIMES {
        assert_eq!(
            code(&inbox, &now(&format!("new_{number}"))).await,
            "accepted"
        );
    }
    look("accept", &["deliveries_forget_at"], 8.0);

    // Takes, finds the next, removes, and forgets.
    let count = AtomicUsize::new(0);
    let handler = async |_: Received<'static>| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok::<_, HandlerError>(())
    };
    let stop = until("postgres", async || {
        count.load(Ordering::SeqCst) >= 8 * TIMES
    });
    inbox.worker().run(handler, stop).await;
    look("work", &["inbox_due", "inbox_pkey", "inbox_forget"], 64.0);

    for _ in 0..TIMES {
        assert!(inbox.stats().await.unwrap().dead > 5000);
    }
    let only = ["inbox_due on", "inbox_dead on"];
    look("stats", &only, 60_000.0);

    let mut last = 0;
    for _ in 0..TIMES {
        let page = inbox.dead_letters(last, 20).await.unwrap();
        last = page[19].id;
    }
    look("dead letters", &["inbox_dead on"], 20.0);

    for letter in inbox.dead_letters(0, TIMES).await.unwrap() {
        assert!(inbox.retry(letter.id).await.unwrap());
        assert!(!inbox.discard(letter.id).await.unwrap());
    }
    // By the primary key, or the index of dead letters.
    look("retry and discard", &["inbox"], 20.0);
}
