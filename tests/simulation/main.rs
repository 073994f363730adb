//! A fleet of receivers with an adversary, on virtual time: see `docs/reliability.md`.
//!
//! `SIMULATION` changes what is run: `seeds=1000 from=500`, or `seed=7` alone, with changes of the
//! plan such as `receivers=1 crashes=0`. `trace=PATH` writes the trace of a seed, and `shrink=yes` makes
//! a plan that breaks a promise smaller. The script `run` beside this sets it.

mod adversary;
#[path = "../support/block_on.rs"]
mod block_on;
mod executor;
mod fleet;
mod google;
#[path = "../support/model.rs"]
mod model;
#[path = "../support/occupied.rs"]
mod occupied;
mod oracle;
mod plan;
#[path = "../support/rng.rs"]
mod rng;
mod sources;
mod store;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use oracle::Violation;
use plan::Plan;
use world::run;

/// The options in `SIMULATION`.
struct Options {
    from: u64,
    seeds: u64,
    changes: String,
    trace: Option<String>,
    shrink: bool,
}

impl Options {
    fn read() -> Self {
        let words = std::env::var("SIMULATION").unwrap_or_default();
        Self::parse(&words).unwrap_or_else(|wrong| panic!("SIMULATION={words:?}: {wrong}"))
    }

    fn parse(words: &str) -> Result<Self, String> {
        let mut options = Self {
            from: 1,
            seeds: if cfg!(debug_assertions) { 40 } else { 300 },
            changes: String::new(),
            trace: None,
            shrink: false,
        };
        for word in words.split_whitespace() {
            let Some((name, value)) = word.split_once('=') else {
                return Err(format!("{word:?} is not NAME=VALUE"));
            };
            let number = || {
                let number = value
                    .parse()
                    .ok()
                    .filter(|it| (1..=u64::from(u32::MAX)).contains(it));
                number.ok_or_else(|| format!("{name} is a number from 1 to {}", u32::MAX))
            };
            match name {
                "from" => options.from = number()?,
                "seeds" => options.seeds = number()?,
                "seed" => (options.from, options.seeds) = (number()?, 1),
                "trace" => options.trace = Some(value.into()),
                "shrink" => options.shrink = value == "yes",
                _ => options.changes = format!("{} {word}", options.changes),
            }
        }
        if options.trace.is_some() && options.seeds > 1 {
            return Err("a trace is that of one seed".into());
        }
        Plan::new(options.from).with(&options.changes)?;
        Ok(options)
    }
}

/// Makes a plan smaller for as long as it breaks the same promise.
fn shrink(mut plan: Plan, invariant: &str) -> Plan {
    let breaks = |plan: &Plan| {
        let violation = run(plan, false).violation;
        violation.is_some_and(|violation| violation.invariant == invariant)
    };
    while let Some(smaller) = plan.smaller().into_iter().find(breaks) {
        println!("it breaks with {smaller} too");
        plan = smaller;
    }
    plan
}

fn fail(plan: &Plan, violation: &Violation, options: &Options) -> ! {
    let (seed, invariant) = (plan.seed, violation.invariant);
    println!("seed {seed} breaks `{invariant}`: {}", violation.what);
    let mut smallest = plan.clone();
    if options.shrink {
        smallest = shrink(smallest, invariant);
    }
    let again = run(&smallest, true);
    let trace = again.trace.unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    let last = lines[lines.len().saturating_sub(40)..].join("\n");
    let violation = again
        .violation
        .map_or_else(String::new, |violation| violation.what);
    panic!(
        "a promise is broken, see docs/reliability.md\n{last}\n`{invariant}`: {violation}\n\
         seed {seed} with {smallest}\n\
         its trace: tests/simulation/run trace {seed} {smallest}\n\
         made smaller: tests/simulation/run shrink {seed}"
    );
}

#[test]
fn every_promise_holds_in_a_fleet_under_attack() {
    let options = Options::read();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= end {
                    return;
                }
                let plan = Plan::new(seed).with(&options.changes).unwrap();
                let report = run(&plan, options.trace.is_some());
                if let (Some(path), Some(trace)) = (&options.trace, &report.trace) {
                    std::fs::write(path, trace).unwrap();
                }
                if let Some(violation) = report.violation {
                    // One thread tells.
                    if next.swap(u64::MAX / 2, Ordering::SeqCst) < u64::MAX / 2 {
                        fail(&plan, &violation, &options);
                    }
                    return;
                }
                assert!(!options.shrink, "seed {seed} breaks no promise");
                let load = report.load;
                if options.changes.is_empty() {
                    assert!(
                        load.genuine >= 300 && load.adversary >= 300,
                        "seed {seed}: {load:?}"
                    );
                    assert!(
                        load.key_rotations == 3 && load.secret_rotations == 1,
                        "seed {seed}: {load:?}"
                    );
                    let inbox = plan.mode() == plan::Mode::Inbox;
                    assert!(
                        !inbox || load.taken >= 300 && load.dead > 0,
                        "seed {seed}: {load:?}"
                    );
                    assert!(
                        load.crashes >= 10 && load.outages == 3,
                        "seed {seed}: {load:?}"
                    );
                }
                if options.seeds > 1_000 && seed.is_multiple_of(500) {
                    println!("seed {seed}");
                }
                if options.seeds < 10 {
                    println!("seed {seed}: {plan} {load:?}");
                }
            }
        };
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

#[test]
fn two_runs_of_a_seed_are_the_same_byte_for_byte() {
    for seed in 1..=2 {
        for changes in ["mode=handle", "mode=inbox"] {
            let plan = Plan::new(seed).with(changes).unwrap();
            let [one, other] = [(); 2].map(|()| run(&plan, true).trace.unwrap());
            assert!(one.lines().count() > 1_000);
            assert!(one == other, "seed {seed} {changes}");
        }
    }
}
