//! Processes that accept and handle deliveries and are killed under load, and workers that share an
//! inbox: this program, started again for its one test `inbox_kills::process`.
//!
//! `KILLS` sets how often a process is killed: 30 times by default.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
    io::Write as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gemini_webhooks::{
    Inbox,
    inbox::InboxStore,
    receiver::{HandlerError, Received},
    store::{Claim, ClaimOutcome, PostgresStore, SqliteStore, StoreError},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::{
    fixture::client,
    inbox::{MOMENT, SECOND, Seen, Site, code, counts, now, until, verifier},
    processes::number,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Those that are accepted at a time by each process.
const SENDERS: usize = 16;

/// The environment variable that makes this process one of an inbox: the store's URL, the number of the
/// first delivery that it accepts or `none`, and the microseconds that a handler takes, a line each.
const ARGUMENTS: &str = "INBOX_PROCESS";
/// Begin the lines of deliveries that were answered 2xx, and of those that were handled.
const ACCEPTED: &str = "accepted ";
const HANDLED: &str = "handled ";

/// The effect, and in one step with it the end of the delivery.
enum Effects {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Effects {
    fn open(url: &str) -> Result<(Self, Arc<dyn InboxStore>), StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let store = SqliteStore::open(path)?;
            return Ok((Self::Sqlite(store.clone()), Arc::new(store)));
        }
        let store = PostgresStore::connect(url)?;
        Ok((Self::Postgres(store.clone()), Arc::new(store)))
    }

    async fn record(&self, id: &str, claim: &Claim) -> Result<(), HandlerError> {
        match self {
            Self::Sqlite(store) => {
                let id = id.to_owned();
                let work = move |transaction: &rusqlite::Transaction<'_>| {
                    transaction.execute("INSERT INTO effects VALUES (?1)", [id])?;
                    Ok::<_, StoreError>(())
                };
                store.complete_with(claim, work).await?;
            }
            Self::Postgres(store) => {
                let transaction = store.begin(claim).await?;
                let insert = "INSERT INTO effects VALUES ($1)";
                transaction.client().execute(insert, &[&id]).await?;
                transaction.complete().await?;
            }
        }
        Ok(())
    }
}

/// In one piece, even where this process is killed meanwhile.
fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Those with an even number have an effect in the database.
fn has_effect(id: &str) -> bool {
    let number: usize = id.strip_prefix("msg_").unwrap().parse().unwrap();
    number.is_multiple_of(2)
}

/// Does nothing where it is not started as a process of an inbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let arguments: Vec<&str> = arguments.lines().collect();
    let [url, first, pause] = *arguments else {
        panic!("expected a store, a number and a pause")
    };
    let pause = Duration::from_micros(pause.parse().unwrap());
    let (effects, store) = Effects::open(url).unwrap();
    let inbox = Inbox::builder(verifier(), store).build().unwrap();
    if let Ok(first) = first.parse() {
        let next = Arc::new(AtomicUsize::new(first));
        for _ in 0..SENDERS {
            tokio::spawn(send(inbox.clone(), Arc::clone(&next)));
        }
    }
    let handler = async |received: Received<'static>| {
        let id = received.delivery().id();
        tokio::time::sleep(pause).await;
        if has_effect(id) {
            effects.record(id, received.claim()).await?;
        }
        say(&format!("{HANDLED}{id}"));
        tokio::time::sleep(pause).await;
        Ok::<_, HandlerError>(())
    };
    let stop = async {
        if first != "none" {
            pending::<()>().await;
        }
        // As long as it takes: whoever has started this process waits for its next line, not for all.
        while counts(inbox.stats().await.unwrap()) != [0; 4] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let worker = inbox.worker().concurrency(16).lease(SECOND);
    worker.backoff(MOMENT, MOMENT).run(handler, stop).await;
}

/// Sends deliveries until the process is killed.
async fn send(inbox: Inbox, next: Arc<AtomicUsize>) {
    loop {
        let id = format!("msg_{}", next.fetch_add(1, Ordering::Relaxed));
        let sent = now(&id);
        let reply = inbox.accept(&sent, &sent.body).await;
        assert_eq!(reply.status, 200, "{:?}", reply.outcome);
        say(&format!("{ACCEPTED}{id}"));
        // For what is sent is to be handled too.
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

/// What processes have said before they were killed.
#[derive(Default)]
struct Said {
    accepted: BTreeSet<String>,
    handled: BTreeMap<String, usize>,
}

impl Said {
    fn note(&mut self, line: &str) {
        if let Some(id) = line.strip_prefix(ACCEPTED) {
            self.accepted.insert(id.to_owned());
        } else if let Some(id) = line.strip_prefix(HANDLED) {
            *self.handled.entry(id.to_owned()).or_default() += 1;
        } else {
            eprintln!("process: {line}");
        }
    }

    /// The first number that was not sent, or near it.
    fn next(&self) -> usize {
        let numbers = self.accepted.iter().map(|id| id[4..].parse::<usize>());
        numbers.map(Result::unwrap).max().map_or(0, |last| last + 1)
    }
}

impl Process {
    fn start(url: &str, first: Option<usize>, pause: Duration) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "inbox_kills::process", "--nocapture"]);
        let first = first.map_or("none".to_owned(), |first| first.to_string());
        let arguments = format!("{url}\n{first}\n{}", pause.as_micros());
        command.env(ARGUMENTS, arguments);
        // The standard output is the harness's.
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads so many lines, or those to its end.
    async fn listen(&mut self, said: &mut Said, lines: usize) {
        for _ in 0..lines {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let Some(line) = line.expect("it goes on").unwrap() else {
                return;
            };
            said.note(&line);
        }
    }

    async fn end(mut self, said: &mut Said) {
        self.listen(said, usize::MAX).await;
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// Those that several processes can share.
async fn shared() -> Vec<Site> {
    let mut places = vec![Site::sqlite()];
    places.extend(Site::postgres().await);
    places
}

async fn execute(place: &Site, sql: &str) {
    if let Some(file) = &place.file {
        let connection = rusqlite::Connection::open(&file.0).unwrap();
        connection.execute_batch(sql).unwrap();
    } else {
        client(&place.url).await.batch_execute(sql).await.unwrap();
    }
}

async fn effects(place: &Site) -> Vec<String> {
    let select = "SELECT id FROM effects";
    if let Some(file) = &place.file {
        let connection = rusqlite::Connection::open(&file.0).unwrap();
        let mut select = connection.prepare(select).unwrap();
        let ids = select.query_map([], |row| row.get(0)).unwrap();
        return ids.map(Result::unwrap).collect();
    }
    let rows = client(&place.url).await.query(select, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_an_inbox_completes_all_that_it_accepted_exactly_once() {
    let kills = number("KILLS", 30);
    for place in shared().await {
        let name = place.name;
        execute(&place, "CREATE TABLE effects (id TEXT)").await;
        let mut said = Said::default();
        let (started, mut again) = (Instant::now(), 0);
        for kill in 0..kills {
            // Some that were answered come again, as do all that were not.
            let first = said.next().saturating_sub(20);
            let pause = Duration::from_micros(700);
            let mut process = Process::start(&place.url, Some(first), pause);
            process.listen(&mut said, 40 + kill * 7919 % 200).await;
            tokio::time::sleep(Duration::from_micros((kill * 104_729 % 5000) as u64)).await;
            process.child.kill().await.unwrap();
            process.listen(&mut said, usize::MAX).await;
            let [due, waiting, working, dead] = place.stats().await;
            assert_eq!((waiting, dead), (0, 0), "{name}");
            again += usize::from(due + working > 0);
        }
        assert!(again > kills / 2, "{name}: {again} left something to do");
        let (killed, accepted) = (Instant::now(), said.accepted.len());
        let rest = Process::start(&place.url, None, Duration::from_micros(700));
        rest.end(&mut said).await;

        assert_eq!(place.stats().await, [0; 4], "{name}");
        let mut times: HashMap<String, usize> = HashMap::new();
        for id in effects(&place).await {
            *times.entry(id).or_default() += 1;
        }
        for (id, times) in &times {
            assert_eq!(*times, 1, "{name}: the effect of {id}");
        }
        for id in &said.accepted {
            if has_effect(id) {
                assert!(times.contains_key(id), "{name}: {id} has no effect");
            } else {
                assert!(said.handled.contains_key(id), "{name}: {id} is not handled");
            }
            let known = place.store.claim(&format!("/{id}"), SECOND).await;
            assert_eq!(
                known.unwrap(),
                ClaimOutcome::Done,
                "{name}: {id} is forgotten"
            );
        }
        let again = said.handled.iter().filter(|(_, times)| **times > 1);
        let again: Vec<_> = again.map(|(id, _)| id).collect();
        assert!(
            again.iter().all(|id| !has_effect(id)),
            "{name}: an effect was acknowledged twice: {again:?}"
        );
        assert!(!again.is_empty(), "{name}: no kill was in the middle");
        println!(
            "{name}: {kills} kills in {:?}, {accepted} deliveries answered 2xx, {} handled again, the rest took {:?}",
            killed - started,
            again.len(),
            killed.elapsed()
        );
    }
}

async fn accept_500(place: &Site) -> Vec<String> {
    let ids: Vec<String> = (0..500)
        .map(|number| format!("msg_{}", 2 * number + 1))
        .collect();
    let accepts = ids
        .iter()
        .map(async |id| code(&place.inbox, &now(id)).await);
    let codes = futures_util::future::join_all(accepts).await;
    assert!(
        codes.iter().all(|code| *code == "accepted"),
        "{}",
        place.name
    );
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_of_a_process_share_the_work_and_each_delivery_is_handled_once() {
    for place in Site::all().await {
        let name = place.name;
        let ids = accept_500(&place).await;
        let seen = [Seen::default(), Seen::default()];
        let run = async |seen: &Seen| {
            let handler = async |received: Received<'static>| {
                seen.add(&received);
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok::<_, HandlerError>(())
            };
            let stop = until(name, async || place.stats().await == [0; 4]);
            place.worker().run(handler, stop).await;
        };
        tokio::join!(run(&seen[0]), run(&seen[1]));
        let shares = [0, 1].map(|worker| {
            let handled = ids.iter().map(|id| seen[worker].count(id));
            handled.sum::<usize>()
        });
        for id in &ids {
            assert_eq!(seen[0].count(id) + seen[1].count(id), 1, "{name}: {id}");
        }
        assert!(shares.iter().all(|share| *share > 0), "{name}: {shares:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_the_work_and_each_delivery_is_handled_once() {
    for place in shared().await {
        let name = place.name;
        let ids: BTreeSet<String> = accept_500(&place).await.into_iter().collect();
        // Long enough for both to start.
        let pause = Duration::from_millis(20);
        let processes = [(); 2].map(|()| Process::start(&place.url, None, pause));
        let ends = processes.map(async |process| {
            let mut said = Said::default();
            process.end(&mut said).await;
            said.handled
        });
        let [first, second] = ends;
        let (first, second) = tokio::join!(first, second);
        let shares = [first.len(), second.len()];
        let mut handled = first;
        for (id, times) in second {
            *handled.entry(id).or_default() += times;
        }
        assert!(handled.keys().eq(&ids), "{name}");
        assert!(
            handled.values().all(|times| *times == 1),
            "{name}: {handled:?}"
        );
        assert!(shares.iter().all(|share| *share > 50), "{name}: {shares:?}");
        println!("{name}: {shares:?}");
    }
}
