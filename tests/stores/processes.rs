//! Processes that are killed, and several that share a store.

use std::{
    collections::{HashMap, HashSet},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gemini_webhooks::{store::ClaimOutcome, testing::SignedDelivery};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::{
    fixture::{Fixture, Place, SECRET, client, redis_connection, signed},
    worker,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(path.exists(), "run `cargo test` without `--test`");
    let mut command = Command::new(path);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Another process of this program, that runs the test `worker::worker` alone.
struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Worker {
    fn start(fixture: &Fixture, numbers: impl Iterator<Item = usize>, tasks: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "worker::worker", "--nocapture"]);
        let (url, namespace) = (fixture.url(), &fixture.namespace);
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let arguments = format!("{url}\n{namespace}\n{}\n{tasks}", numbers.join(" "));
        command.env(worker::ARGUMENTS, arguments);
        // The standard output is the harness's.
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it prints; `None` once the process has ended.
    async fn next(&mut self) -> Option<Said> {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.expect("it goes on").unwrap()?;
            if let Some(id) = line.strip_prefix(worker::BEGUN) {
                return Some(Said::Begun(id.to_owned()));
            }
            if let Some(id) = line.strip_prefix(worker::PROCESSED) {
                return Some(Said::Processed(id.to_owned()));
            }
            if let Some(times) = line.strip_prefix(worker::TIMES) {
                return Some(Said::Times(times.to_owned()));
            }
            eprintln!("worker: {line}");
        }
    }

    /// The id of the next delivery whose handler begins; `None` once the process has ended.
    async fn begun(&mut self) -> Option<String> {
        loop {
            if let Said::Begun(id) = self.next().await? {
                return Some(id);
            }
        }
    }
}

enum Said {
    Begun(String),
    Processed(String),
    Times(String),
}

/// The example, and the address it listens on.
async fn receiver(fixture: &Fixture) -> (Child, String) {
    let mut command = example("receiver");
    command.env("BIND", "127.0.0.1:0");
    command.env("GEMINI_WEBHOOK_SECRETS", SECRET);
    command.env("GEMINI_WEBHOOK_STORE", fixture.url());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    let address = line.unwrap().split(' ').next_back().unwrap().to_owned();
    // What it logs has to go somewhere.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_tasks_and_4_processes_one_processes_each_delivery() {
    const IDS: usize = 1000;
    for fixture in Fixture::all().await {
        let name = fixture.name;
        let replicas = match fixture.place {
            Place::Memory => 1,
            _ => 4,
        };
        let mut receivers = Vec::new();
        for _ in 0..replicas {
            receivers.push(receiver(&fixture).await);
        }
        let prefix = fixture.namespace.clone();
        let addresses: Vec<_> = receivers
            .iter()
            .map(|(_, address)| address.clone())
            .collect();
        let addresses = Arc::new(addresses);
        let processed = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
        let next = Arc::new(AtomicUsize::new(0));
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let mut tasks = Vec::new();
        for _ in 0..64 {
            let (addresses, processed) = (Arc::clone(&addresses), Arc::clone(&processed));
            let (next, client, prefix) = (Arc::clone(&next), client.clone(), prefix.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    // Each goes to all receivers, and to the only one four times.
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 4 * IDS {
                        return;
                    }
                    let id = format!("{prefix}-{}", number / 4);
                    let address = &addresses[number % addresses.len()];
                    let sent = signed(&id, OffsetDateTime::now_utc());
                    let mut answer = send(&client, address, &sent).await;
                    while answer["code"] == "in_flight" {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        answer = send(&client, address, &sent).await;
                    }
                    let first = match answer["status"].as_str() {
                        Some("processed") => 1,
                        Some("duplicate") => 0,
                        _ => panic!("{answer}"),
                    };
                    *processed.lock().unwrap().entry(id).or_default() += first;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let processed = processed.lock().unwrap();
        assert_eq!(processed.len(), IDS, "{name}");
        assert!(
            processed.values().all(|times| *times == 1),
            "{name}: {processed:?}"
        );
    }
}

fn request(
    client: &reqwest::Client,
    address: &str,
    sent: &SignedDelivery,
) -> reqwest::RequestBuilder {
    let mut request = client.post(format!("http://{address}/webhook"));
    for (name, value) in sent.headers() {
        request = request.header(name, value);
    }
    request.body(sent.body.clone())
}

async fn send(client: &reqwest::Client, address: &str, sent: &SignedDelivery) -> Value {
    let answer = request(client, address, sent).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

async fn create_effects(fixture: &Fixture) {
    let create = "CREATE TABLE effects (id TEXT)";
    match &fixture.place {
        Place::Sqlite(file) => {
            let connection = rusqlite::Connection::open(&file.0).unwrap();
            connection.execute_batch(create).unwrap();
        }
        Place::Postgres(url) => client(url).await.batch_execute(create).await.unwrap(),
        Place::Memory | Place::Redis(_) => {}
    }
}

async fn effects(fixture: &Fixture) -> Vec<String> {
    let select = "SELECT id FROM effects";
    match &fixture.place {
        Place::Memory => unreachable!("it is in one process"),
        Place::Sqlite(file) => {
            let connection = rusqlite::Connection::open(&file.0).unwrap();
            let mut select = connection.prepare(select).unwrap();
            let ids = select.query_map([], |row| row.get(0)).unwrap();
            ids.map(Result::unwrap).collect()
        }
        Place::Postgres(url) => {
            let rows = client(url).await.query(select, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
        Place::Redis(url) => {
            let mut range = redis::cmd("LRANGE");
            range.arg(format!("{}.effects", fixture.namespace));
            range.arg(0).arg(-1);
            let mut connection = redis_connection(url).await;
            range.query_async(&mut connection).await.unwrap()
        }
    }
}

/// More by hand: `KILLS=300` and `DELIVERIES=20000`.
pub(crate) fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_each_delivery_is_completed_exactly_once() {
    let kills = number("KILLS", 30);
    let count = 5 * kills;
    for fixture in Fixture::shared().await {
        let name = fixture.name;
        create_effects(&fixture).await;
        let mut begun: HashMap<String, u32> = HashMap::new();
        for kill in 0..kills {
            let mut worker = Worker::start(&fixture, (5 * kill..count).chain(0..5 * kill), 1);
            for _ in 0..=kill % 4 {
                let id = worker.begun().await;
                let id = id.unwrap_or_else(|| panic!("{name}: the worker ends by itself"));
                *begun.entry(id).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_micros((kill * 7919 % 3000) as u64)).await;
            worker.child.kill().await.unwrap();
        }
        let killed = Instant::now();
        let half_done = effects(&fixture).await.len();
        assert!(half_done < count, "{name}: nothing is left to be retried");

        let mut worker = Worker::start(&fixture, 0..count, 1);
        while let Some(id) = worker.begun().await {
            *begun.entry(id).or_default() += 1;
        }
        assert!(worker.child.wait().await.unwrap().success(), "{name}");

        let mut done = effects(&fixture).await;
        done.sort_unstable();
        let mut expected: Vec<String> = (0..count).map(|number| format!("msg_{number}")).collect();
        expected.sort_unstable();
        assert_eq!(done, expected, "{name}");
        let again = begun.values().filter(|begun| **begun > 1).count();
        assert!(
            again > kills / 10,
            "{name}: {again} handlers were killed in the middle"
        );
        println!(
            "{name}: {kills} kills, {again} of them before the effect, the rest took {:?}",
            killed.elapsed()
        );
    }
}

/// The deliveries that processes acknowledged before they were killed.
#[derive(Default)]
struct Acknowledged(HashSet<String>);

impl Acknowledged {
    /// Reads what the worker said to its end, or so many lines.
    async fn listen(&mut self, worker: &mut Worker, name: &str, lines: usize) {
        for _ in 0..lines {
            match worker.next().await {
                Some(Said::Processed(id)) => {
                    assert!(self.0.insert(id.clone()), "{name}: {id} twice");
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Many at once, so that completions share commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    const TASKS: usize = 32;
    let kills = number("KILLS", 30);
    for fixture in Fixture::shared().await {
        let name = fixture.name;
        create_effects(&fixture).await;
        let (mut acknowledged, mut checked) = (Acknowledged::default(), HashSet::new());
        let count = 40 * kills;
        for kill in 0..kills {
            // What is new, and what the last have left behind.
            let first = (40 * kill).saturating_sub(200);
            let mut worker = Worker::start(&fixture, first..(40 * kill + 400).min(count), TASKS);
            let lines = 10 + kill * 7919 % 90;
            acknowledged.listen(&mut worker, name, lines).await;
            tokio::time::sleep(Duration::from_micros((kill * 104_729 % 5000) as u64)).await;
            worker.child.kill().await.unwrap();
            acknowledged.listen(&mut worker, name, usize::MAX).await;
            for id in acknowledged.0.difference(&checked) {
                let outcome = fixture.store.claim(&fixture.key(id), PATIENCE).await;
                assert_eq!(outcome.unwrap(), ClaimOutcome::Done, "{name}: {id} is lost");
            }
            checked.clone_from(&acknowledged.0);
        }
        let killed = acknowledged.0.len();
        let mut worker = Worker::start(&fixture, 0..count, TASKS);
        acknowledged.listen(&mut worker, name, usize::MAX).await;
        assert!(worker.child.wait().await.unwrap().success(), "{name}");
        for number in 0..count {
            let key = fixture.key(&format!("msg_{number}"));
            let outcome = fixture.store.claim(&key, PATIENCE).await.unwrap();
            assert_eq!(outcome, ClaimOutcome::Done, "{name}: {number}");
        }
        let mut done = effects(&fixture).await;
        done.sort_unstable();
        let odd = (0..count).filter(|number| number % 2 == 1);
        let mut expected: Vec<String> = odd.map(|number| format!("msg_{number}")).collect();
        expected.sort_unstable();
        assert_eq!(done, expected, "{name}");
        println!("{name}: {kills} kills, {killed} of {count} acknowledged before the last");
    }
}

/// Each handles all deliveries, one from each end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_share_a_store_handle_each_delivery_once_and_neither_starves() {
    const TASKS: usize = 16;
    let count = number("DELIVERIES", 1000);
    for fixture in Fixture::shared().await {
        let name = fixture.name;
        create_effects(&fixture).await;
        let workers = [
            Worker::start(&fixture, 0..count, TASKS),
            Worker::start(&fixture, (0..count).rev(), TASKS),
        ];
        let running = workers.map(|mut worker| {
            tokio::spawn(async move {
                let (mut processed, mut times) = (Vec::new(), String::new());
                while let Some(said) = worker.next().await {
                    match said {
                        Said::Processed(id) => processed.push(id),
                        Said::Times(said) => times = said,
                        Said::Begun(_) => {}
                    }
                }
                assert!(worker.child.wait().await.unwrap().success());
                (processed, times)
            })
        });
        let mut all = HashSet::new();
        for worker in running {
            let (processed, times) = worker.await.unwrap();
            let p99: u64 = times.split(' ').nth(1).unwrap().parse().unwrap();
            println!(
                "{name}: {} of {count} processed, p50, p99 and longest {times} us",
                processed.len()
            );
            assert!(p99 < 2_000_000, "{name}: {times}");
            assert!(processed.len() > count / 10, "{name}: {}", processed.len());
            for id in processed {
                assert!(all.insert(id.clone()), "{name}: {id} twice");
            }
        }
        assert_eq!(all.len(), count, "{name}");
        assert_eq!(effects(&fixture).await.len(), count / 2, "{name}");
    }
}
