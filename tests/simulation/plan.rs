//! The size of a simulated fleet: all of it follows from the seed, and each part can be reduced.

use std::{fmt, time::Duration};

use crate::rng::Rng;

/// The store of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// A `MemoryStore` that outlives the processes, as a server would.
    Memory,
    /// A model of PostgreSQL.
    Postgres,
    /// A model of Redis.
    Redis,
    /// An SQLite file, which all processes of one machine share.
    Sqlite,
}

const STORES: [(&str, StoreKind); 4] = [
    ("memory", StoreKind::Memory),
    ("sqlite", StoreKind::Sqlite),
    ("postgres", StoreKind::Postgres),
    ("redis", StoreKind::Redis),
];

/// The way in which the processes of a fleet take deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// With a `Receiver`, whose handler runs while the sender waits.
    Handle,
    /// With an `Inbox`, and a `Worker` in each process.
    Inbox,
}

const MODES: [(&str, Mode); 2] = [("handle", Mode::Handle), ("inbox", Mode::Inbox)];

/// The numbers of everything that happens in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) store: StoreKind,
    mode: Mode,
    /// Processes that receive.
    pub(crate) receivers: u64,
    /// The time in which everything happens. Retries, and replays, go on for 26 hours more.
    pub(crate) hours: u64,
    /// Genuine deliveries.
    pub(crate) deliveries: u64,
    /// Acts of the adversary; some are many requests.
    pub(crate) acts: u64,
    pub(crate) key_rotations: u64,
    pub(crate) secret_rotations: u64,
    pub(crate) crashes: u64,
    /// Processes with a worker that are shut down, and start again.
    pub(crate) restarts: u64,
    pub(crate) pauses: u64,
    /// Times at which a process with a worker can't reach the store.
    pub(crate) partitions: u64,
    pub(crate) clock_steps: u64,
    /// Of the store, the key server and the network, in turn.
    pub(crate) outages: u64,
    /// 1 where the network loses, repeats and delays, and clients hang up.
    pub(crate) network_faults: u64,
    /// 1 where single operations of the store fail or are slow.
    pub(crate) store_faults: u64,
    /// 1 where handlers are slow, fail, panic or outlive their lease.
    pub(crate) handler_faults: u64,
}

/// The least and the most of a number.
fn bounds(name: &str) -> (u64, u64) {
    match name {
        "receivers" => (1, 16),
        "hours" => (1, 240),
        "network_faults" | "store_faults" | "handler_faults" | "secret_rotations" => (0, 1),
        "key_rotations" => (0, 3),
        _ => (0, 2_000),
    }
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "plan");
        Self {
            seed,
            store: STORES[rng.index(6) % 4].1,
            mode: MODES[usize::from(Rng::new(seed, "mode").chance(60))].1,
            receivers: 1 + rng.below(5),
            hours: 24,
            deliveries: 300 + rng.below(40),
            acts: 180 + rng.below(40),
            key_rotations: 3,
            secret_rotations: 1,
            crashes: 11 + rng.below(6),
            restarts: 4,
            pauses: 6,
            partitions: 6,
            clock_steps: 6,
            outages: 3,
            network_faults: 1,
            store_faults: 1,
            handler_faults: 1,
        }
    }

    /// The numbers, each under its name.
    fn numbers(&mut self) -> [(&'static str, &mut u64); 15] {
        [
            ("acts", &mut self.acts),
            ("crashes", &mut self.crashes),
            ("restarts", &mut self.restarts),
            ("pauses", &mut self.pauses),
            ("partitions", &mut self.partitions),
            ("clock_steps", &mut self.clock_steps),
            ("outages", &mut self.outages),
            ("network_faults", &mut self.network_faults),
            ("store_faults", &mut self.store_faults),
            ("handler_faults", &mut self.handler_faults),
            ("secret_rotations", &mut self.secret_rotations),
            ("key_rotations", &mut self.key_rotations),
            ("receivers", &mut self.receivers),
            ("hours", &mut self.hours),
            ("deliveries", &mut self.deliveries),
        ]
    }

    /// Redis has no inbox.
    pub(crate) fn mode(&self) -> Mode {
        if self.store == StoreKind::Redis {
            Mode::Handle
        } else {
            self.mode
        }
    }

    /// Everything happens in so many milliseconds.
    pub(crate) fn milliseconds(&self) -> u64 {
        self.hours * 3_600_000
    }

    /// The end of all retries and replays.
    pub(crate) fn end(&self) -> Duration {
        Duration::from_secs((self.hours + 26) * 3_600)
    }

    /// Reads changes such as `receivers=1 crashes=0`.
    pub(crate) fn with(mut self, changes: &str) -> Result<Self, String> {
        for change in changes.split_whitespace() {
            let (name, value) = change.split_once('=').unwrap_or((change, ""));
            if name == "store" {
                let known = STORES.iter().find(|(name, _)| *name == value);
                let names = STORES.map(|(name, _)| name).join(", ");
                self.store = known.ok_or_else(|| format!("a store is one of {names}"))?.1;
                continue;
            }
            if name == "mode" {
                let known = MODES.iter().find(|(name, _)| *name == value);
                let names = MODES.map(|(name, _)| name).join(", ");
                self.mode = known.ok_or_else(|| format!("a mode is one of {names}"))?.1;
                continue;
            }
            let mut numbers = self.numbers();
            let names: Vec<&str> = numbers.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            let number = numbers.iter_mut().find(|(known, _)| *known == name);
            let Some((_, number)) = number else {
                return Err(format!("{name:?} is not one of {names}"));
            };
            let (least, most) = bounds(name);
            let value = value.parse().ok().filter(|it| (least..=most).contains(it));
            **number = value.ok_or_else(|| format!("{name} is a number from {least} to {most}"))?;
        }
        Ok(self)
    }

    /// Plans that have less of one thing, those with the least first.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        for index in 0..self.clone().numbers().len() {
            let mut plan = self.clone();
            let now = *plan.numbers()[index].1;
            let (least, _) = bounds(plan.numbers()[index].0);
            for less in [least, now / 4, now / 2, now.saturating_sub(1)] {
                if less < now && less >= least {
                    *plan.numbers()[index].1 = less;
                    smaller.push(plan.clone());
                }
            }
        }
        smaller
    }
}

/// As [`Plan::with`] reads it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = STORES.iter().find(|(_, store)| *store == self.store);
        let mode = MODES.iter().find(|(_, mode)| *mode == self.mode());
        write!(f, "store={} mode={}", store.unwrap().0, mode.unwrap().0)?;
        for (name, number) in self.clone().numbers() {
            write!(f, " {name}={number}")?;
        }
        Ok(())
    }
}
