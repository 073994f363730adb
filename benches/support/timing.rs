//! How two pieces of work are compared.

use std::time::{Duration, Instant};

const ROUNDS: usize = 200;
/// How long a side is measured in each round.
const SLICE: Duration = Duration::from_micros(500);

/// What two pieces of work cost, measured in turn.
pub(crate) struct Pair {
    /// The median, over many rounds, of the time that `a` takes over the time that `b` takes: what
    /// slows the machine down slows both.
    pub(crate) ratio: f64,
    /// The quickest round's nanoseconds per call of each.
    pub(crate) nanoseconds: [f64; 2],
}

pub(crate) fn pair(mut a: impl FnMut(), mut b: impl FnMut()) -> Pair {
    fn calls_per_slice(work: &mut impl FnMut()) -> u32 {
        let (started, mut calls) = (Instant::now(), 0);
        while started.elapsed() < 10 * SLICE {
            work();
            calls += 1;
        }
        (calls / 10).max(1)
    }
    fn seconds_per_call(work: &mut impl FnMut(), calls: u32) -> f64 {
        let started = Instant::now();
        for _ in 0..calls {
            work();
        }
        started.elapsed().as_secs_f64() / f64::from(calls)
    }
    let (a_calls, b_calls) = (calls_per_slice(&mut a), calls_per_slice(&mut b));
    let mut ratios = Vec::new();
    let mut quickest = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        let round = [
            seconds_per_call(&mut a, a_calls),
            seconds_per_call(&mut b, b_calls),
        ];
        ratios.push(round[0] / round[1]);
        for (quickest, seconds) in quickest.iter_mut().zip(round) {
            *quickest = quickest.min(seconds);
        }
    }
    ratios.sort_by(f64::total_cmp);
    Pair {
        ratio: ratios[ROUNDS / 2],
        nanoseconds: quickest.map(|seconds| seconds * 1e9),
    }
}

/// Prints what the bench's reader and the plot's script look for.
pub(crate) fn time(name: &str, nanoseconds: f64) {
    println!("time {name} {nanoseconds:.0} ns");
}
