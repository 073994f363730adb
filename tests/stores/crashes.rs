//! Processes that are killed, and several that share a store.

use std::{
    collections::HashMap,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::fixture::{Fixture, Place, client, redis_connection};

const PATIENCE: Duration = Duration::from_secs(120);

fn worker(fixture: &Fixture, first: usize, count: usize) -> Child {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push("store_worker");
    assert!(path.exists(), "run `cargo test` without `--test`");
    let mut command = Command::new(path);
    command.args([&fixture.url(), &fixture.namespace]);
    command.args([first.to_string(), count.to_string()]);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

async fn create_effects(fixture: &Fixture) {
    let create = "CREATE TABLE effects (id TEXT)";
    match &fixture.place {
        Place::Sqlite(file) => {
            let connection = rusqlite::Connection::open(&file.0).unwrap();
            connection.execute_batch(create).unwrap();
        }
        Place::Postgres(url) => client(url).await.batch_execute(create).await.unwrap(),
        Place::Memory(_) | Place::Redis(_) => {}
    }
}

async fn effects(fixture: &Fixture) -> Vec<String> {
    let select = "SELECT id FROM effects";
    match &fixture.place {
        Place::Memory(_) => unreachable!("it is in one process"),
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
            range.arg(format!("{}effects", fixture.namespace));
            range.arg(0).arg(-1);
            let mut connection = redis_connection(url).await;
            range.query_async(&mut connection).await.unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_each_delivery_is_completed_exactly_once() {
    const KILLS: usize = 300;
    const COUNT: usize = 1500;
    for fixture in Fixture::shared().await {
        let name = fixture.name;
        create_effects(&fixture).await;
        let mut begun: HashMap<String, u32> = HashMap::new();
        for kill in 0..KILLS {
            let mut worker = worker(&fixture, kill * COUNT / KILLS, COUNT);
            let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
            for _ in 0..=kill % 4 {
                let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
                let id = line.unwrap_or_else(|| panic!("{name}: the worker ends by itself"));
                *begun.entry(id).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_micros((kill * 7919 % 3000) as u64)).await;
            worker.kill().await.unwrap();
        }
        let killed = Instant::now();
        let half_done = effects(&fixture).await.len();
        assert!(half_done < COUNT, "{name}: nothing is left to be retried");

        let mut worker = worker(&fixture, 0, COUNT);
        let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
        while let Some(id) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
            *begun.entry(id).or_default() += 1;
        }
        assert!(worker.wait().await.unwrap().success(), "{name}");

        let mut done = effects(&fixture).await;
        done.sort_unstable();
        let mut expected: Vec<String> = (0..COUNT).map(|number| format!("msg_{number}")).collect();
        expected.sort_unstable();
        assert_eq!(done, expected, "{name}");
        let again = begun.values().filter(|begun| **begun > 1).count();
        assert!(
            again > KILLS / 10,
            "{name}: {again} handlers were killed in the middle"
        );
        println!(
            "{name}: {KILLS} kills, {again} of them before the effect, the rest took {:?}",
            killed.elapsed()
        );
    }
}
