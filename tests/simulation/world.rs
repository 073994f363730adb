//! One run: everybody together, on virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    ops::Deref,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use gemini_webhooks::{
    JobTokens,
    store::MemoryStore,
    testing::{Clock, Random},
};

use crate::{
    adversary::{self, Loot},
    executor::{Executor, Group, OUTSIDE, Step},
    fleet::{self, Fleet, HandlerPanic, Process},
    google::{self, Google, KeyServer, Mode, wall},
    model::{Model, Server},
    oracle::{Load, Oracle, Violation},
    plan::{self, Plan, StoreKind},
    rng::Rng,
    store::{self, Backend},
};

#[derive(Clone)]
pub(crate) struct World(Arc<Everything>);

pub(crate) struct Everything {
    pub(crate) plan: Plan,
    pub(crate) executor: Executor,
    /// The tokens under the current job key, which also accept those under the former.
    pub(crate) tokens: JobTokens,
    former_tokens: JobTokens,
    pub(crate) require_uri_token: bool,
    oracle: Mutex<Oracle>,
    google: Mutex<Google>,
    key_server: Mutex<KeyServer>,
    fleet: Mutex<Fleet>,
    loot: Mutex<Loot>,
    balancer: Mutex<Rng>,
    outages: Mutex<Outages>,
    runs: AtomicU64,
    /// The places of processes whose key source has answered.
    landed: Mutex<Vec<usize>>,
    trace: Mutex<Option<String>>,
}

#[derive(Default)]
struct Outages {
    store: bool,
    network: bool,
    /// Processes that can't reach the store.
    cut_off: BTreeSet<Group>,
}

impl Deref for World {
    type Target = Everything;

    fn deref(&self) -> &Everything {
        &self.0
    }
}

/// The result of a run.
pub(crate) struct Report {
    pub(crate) violation: Option<Violation>,
    pub(crate) load: Load,
    pub(crate) trace: Option<String>,
}

impl Everything {
    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap()
    }

    pub(crate) fn google(&self) -> MutexGuard<'_, Google> {
        self.google.lock().unwrap()
    }

    pub(crate) fn key_server(&self) -> MutexGuard<'_, KeyServer> {
        self.key_server.lock().unwrap()
    }

    pub(crate) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap()
    }

    pub(crate) fn loot(&self) -> MutexGuard<'_, Loot> {
        self.loot.lock().unwrap()
    }

    pub(crate) fn balancer(&self) -> MutexGuard<'_, Rng> {
        self.balancer.lock().unwrap()
    }

    pub(crate) fn store_is_down(&self, group: Group) -> bool {
        let outages = self.outages.lock().unwrap();
        outages.store || outages.cut_off.contains(&group)
    }

    pub(crate) fn network_is_down(&self) -> bool {
        self.outages.lock().unwrap().network
    }

    pub(crate) fn landed(&self, place: usize) {
        self.landed.lock().unwrap().push(place);
    }

    /// The job key is replaced in the middle of the deliveries.
    pub(crate) fn minted_by(&self, number: u64) -> &JobTokens {
        if number < self.plan.deliveries / 2 {
            &self.former_tokens
        } else {
            &self.tokens
        }
    }

    pub(crate) fn next_run(&self) -> u64 {
        self.runs.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let mut trace = self.trace.lock().unwrap();
        if let Some(trace) = &mut *trace {
            let now = self.executor.now().as_secs_f64();
            writeln!(trace, "{now:>13.6} {}", line()).unwrap();
        }
    }
}

impl World {
    /// Waits for a future at most this long.
    pub(crate) async fn within<T>(
        &self,
        time: Duration,
        future: impl Future<Output = Option<T>>,
    ) -> Option<T> {
        let (mut future, mut sleep) = (pin!(future), pin!(self.executor.sleep(time)));
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(value),
            Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    fn new(plan: Plan, directory: &Path, traced: bool) -> Self {
        let seed = plan.seed;
        let mut rng = Rng::new(seed, "world");
        let executor = Executor::new(Rng::new(seed, "order of tasks"));
        let google = Google::new(seed);
        let key_server = KeyServer::new(seed, google.keys.clone());
        let (clock, random) = (add_machine(&executor, 0), Random::seeded(rng.next()));
        let former_tokens = JobTokens::new(rng.bytes())
            .clock(clock.clone())
            .random(random.clone());
        let tokens = JobTokens::new(rng.bytes())
            .clock(clock)
            .random(random)
            .or_made_by(former_tokens.clone());
        let drift = |rng: &mut Rng| i64::try_from(rng.below(201)).unwrap() - 100;
        let shared = add_machine(&executor, drift(&mut rng));
        let backend = match plan.store {
            StoreKind::Memory => Backend::Memory(MemoryStore::default().clock(shared.clone()), 1),
            StoreKind::Postgres => Backend::Model(Model::new(Server::Postgres, shared.clone())),
            StoreKind::Redis => Backend::Model(Model::new(Server::Redis, shared.clone())),
            StoreKind::Sqlite => {
                let path = directory.join("fleet.db");
                store::create_effects(&path);
                Backend::Sqlite(path)
            }
        };
        let processes = (0..plan.receivers).map(|_| Process {
            clock: match plan.store {
                StoreKind::Sqlite => shared.clone(),
                _ => add_machine(&executor, drift(&mut rng)),
            },
            backend: backend.clone(),
            group: OUTSIDE,
            running: None,
            shutdown: None,
            calm_since: Duration::ZERO,
        });
        let fleet = Fleet {
            processes: processes.collect(),
            secrets: google.secrets.clone(),
            last_group: 0,
        };
        Self(Arc::new(Everything {
            executor,
            tokens,
            former_tokens,
            require_uri_token: rng.chance(30),
            oracle: Mutex::default(),
            google: google.into(),
            key_server: key_server.into(),
            fleet: fleet.into(),
            loot: Loot::new(seed).into(),
            balancer: Rng::new(seed, "balancer").into(),
            outages: Mutex::default(),
            runs: AtomicU64::new(0),
            landed: Mutex::default(),
            trace: Mutex::new(traced.then(String::new)),
            plan,
        }))
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(OUTSIDE, None, future);
    }

    fn populate(&self) {
        let plan = &self.plan;
        self.oracle().load.genuine = plan.deliveries;
        let places = self.fleet().processes.len();
        for place in 0..places {
            fleet::start(self, place);
        }
        for number in 0..4 {
            let context = format!("leaked/{number}");
            let token = self.tokens.mint_for(&context).unwrap();
            self.loot().leak(token, context);
        }
        let short = self.tokens.clone().valid_for(Duration::from_secs(3600));
        self.loot().short_lived = Some(short.mint_for("short").unwrap());
        for number in 0..plan.deliveries {
            self.spawn(google::deliver(self.clone(), number));
        }
        for number in 0..plan.acts {
            self.spawn(adversary::attack(self.clone(), number));
        }
        for number in 0..plan.key_rotations {
            self.spawn(rotate_keys(self.clone(), number));
            if plan.acts > 0 {
                self.spawn(adversary::block_rotation(self.clone(), number));
            }
        }
        for _ in 0..plan.secret_rotations.min(1) {
            self.spawn(rotate_secrets(self.clone()));
        }
        for number in 0..plan.crashes {
            self.spawn(crash(self.clone(), number));
        }
        if plan.mode() == plan::Mode::Inbox {
            for number in 0..plan.restarts {
                self.spawn(restart(self.clone(), number));
            }
            for number in 0..plan.partitions {
                self.spawn(partition(self.clone(), number));
            }
            self.spawn(look_after_dead_letters(self.clone()));
        }
        for number in 0..plan.pauses {
            self.spawn(pause(self.clone(), number));
        }
        for number in 0..plan.clock_steps {
            self.spawn(step_clock(self.clone(), number));
        }
        for number in 0..plan.outages {
            self.spawn(outage(self.clone(), number));
        }
    }

    fn run(&self) {
        self.populate();
        loop {
            match self.executor.step(self.plan.end()) {
                Step::Polled => {
                    let landed = std::mem::take(&mut *self.landed.lock().unwrap());
                    for place in landed {
                        fleet::check_keys(self, place);
                    }
                }
                Step::Crashed(group) => fleet::crashed(self, group),
                Step::Panicked(panic) if panic.is::<HandlerPanic>() => {}
                Step::Panicked(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).into()));
                    self.oracle().violated("panic", text.unwrap_or_default());
                }
                Step::End => break,
            }
            if self.oracle().violation().is_some() {
                return;
            }
        }
        let google = self.google();
        self.oracle().finish(google.deliveries.values());
        self.oracle().finish_inbox(self.plan.end());
        if let Backend::Sqlite(path) = &self.fleet().processes[0].backend {
            self.oracle().found(&store::effects(path));
        }
    }
}

fn add_machine(executor: &Executor, drift: i64) -> Clock {
    let clock = Clock::manual(wall(Duration::ZERO));
    executor.add_machine(clock.clone(), drift);
    clock
}

/// At any time of the day.
async fn any_time(world: &World, rng: &mut Rng) {
    world
        .executor
        .sleep_until(rng.time(60_000, world.plan.milliseconds()))
        .await;
}

/// Google's keys are replaced one after the other: at once, or with both published for a while.
async fn rotate_keys(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("key rotation {number}"));
    world
        .executor
        .sleep_until(google::rotation(&world.plan, number))
        .await;
    let old = world.google().keys.clone();
    let overlaps = rng.chance(50);
    let new = world.google().rotate_keys();
    world.trace(|| {
        format!(
            "google  rotates its keys to {}, both: {overlaps}",
            new.ed25519_id(0)
        )
    });
    world.oracle().load.key_rotations += 1;
    let now = world.executor.now();
    if overlaps {
        world.key_server().publish(vec![old, new.clone()], now);
        world
            .executor
            .sleep(rng.time(60_000, 60_000 + world.plan.milliseconds() / 6))
            .await;
    }
    let now = world.executor.now();
    world.key_server().publish(vec![new], now);
}

/// The operator rotates the signing secret, with an overlap, as Google documents it.
async fn rotate_secrets(world: World) {
    let mut rng = Rng::new(world.plan.seed, "secret rotation");
    world
        .executor
        .sleep(rng.time(60_000, world.plan.milliseconds() / 2))
        .await;
    let old = world.google().secrets[0].clone();
    let new = google::secret(&mut rng);
    world.trace(|| "google  rotates the secret".into());
    world.google().secrets = vec![old.clone(), new.clone()];
    world.executor.sleep(rng.time(60_000, 600_000)).await;
    fleet::configure(&world, vec![old.clone(), new.clone()]);
    world
        .executor
        .sleep(rng.time(660_000, world.plan.milliseconds() / 2))
        .await;
    world.google().secrets = vec![new.clone()];
    world.executor.sleep(Duration::from_secs(600)).await;
    fleet::configure(&world, vec![new]);
    world.loot().old_secret = Some(old);
    world.oracle().load.secret_rotations += 1;
}

async fn crash(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("crash {number}"));
    any_time(&world, &mut rng).await;
    let await_points = u32::try_from(rng.below(30)).unwrap();
    loop {
        // One that runs, and that nothing else lets crash.
        if let Some(group) = any_group(&world, &mut rng)
            && world.executor.crash_after(group, await_points)
        {
            return;
        }
        world.executor.sleep(rng.time(1_000, 120_000)).await;
    }
}

async fn restart(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("restart {number}"));
    any_time(&world, &mut rng).await;
    let place = rng.index(world.fleet().processes.len());
    fleet::restart(world, place, rng.time(500, 60_000)).await;
}

async fn partition(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("partition {number}"));
    any_time(&world, &mut rng).await;
    let place = rng.index(world.fleet().processes.len());
    let group = world.fleet().processes[place].group;
    let duration = rng.time(10_000, 300_000);
    world.trace(|| format!("process {place} is cut off from the store for {duration:?}"));
    world.outages.lock().unwrap().cut_off.insert(group);
    world.oracle().is_cut_off(group, Duration::MAX);
    world.executor.sleep(duration).await;
    world.outages.lock().unwrap().cut_off.remove(&group);
    let now = world.executor.now();
    world.oracle().is_cut_off(group, now);
}

/// Every few hours, until long before the end.
async fn look_after_dead_letters(world: World) {
    let mut rng = Rng::new(world.plan.seed, "dead letters");
    let until = world
        .plan
        .end()
        .saturating_sub(Duration::from_secs(6 * 3_600));
    loop {
        world.executor.sleep(rng.time(600_000, 14_400_000)).await;
        if world.executor.now() >= until {
            return;
        }
        fleet::look_after_dead_letters(&world, &mut rng);
    }
}

async fn pause(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("pause {number}"));
    any_time(&world, &mut rng).await;
    let place = rng.index(world.fleet().processes.len());
    fleet::pause(world, place, rng.time(1_000, 150_000)).await;
}

async fn step_clock(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("clock {number}"));
    any_time(&world, &mut rng).await;
    let place = rng.index(world.fleet().processes.len());
    let offset = i64::try_from(rng.below(120_001)).unwrap() - 60_000;
    world.trace(|| format!("process {place} has a clock that is {offset} ms wrong"));
    fleet::step_clock(&world, place, offset);
}

/// Of the store, the key server and the network, in turn.
async fn outage(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("outage {number}"));
    any_time(&world, &mut rng).await;
    world.oracle().load.outages += 1;
    let duration = rng.time(10_000, 7_200_000);
    let end = world.executor.now() + duration;
    let kind = ["store", "key server", "network"][usize::try_from(number % 3).unwrap()];
    world.trace(|| format!("the {kind} is down for {duration:?}"));
    match number % 3 {
        0 => {
            world.outages.lock().unwrap().store = true;
            world.oracle().store_is_away(Duration::MAX);
            world.executor.sleep(duration).await;
            world.outages.lock().unwrap().store = false;
            let now = world.executor.now();
            world.oracle().store_is_away(now);
        }
        1 => {
            if world.plan.acts > 0 {
                world.spawn(adversary::press_on_an_outage(world.clone(), number));
            }
            let mut asked_to_wait = false;
            while world.executor.now() < end {
                let mode = *rng.pick(&[
                    Mode::Slow,
                    Mode::Away(None),
                    Mode::Away(Some(7)),
                    Mode::Away(Some(3_600)),
                    Mode::Wrong,
                    Mode::Impersonated,
                ]);
                asked_to_wait |= matches!(mode, Mode::Away(Some(_)));
                world.key_server().mode = mode;
                // Nobody can know before it is over when that will be.
                world.key_server().sound_since = Duration::MAX;
                let for_now = rng.time(5_000, 1_800_000);
                world
                    .executor
                    .sleep(for_now.min(end.saturating_sub(world.executor.now())))
                    .await;
            }
            let now = world.executor.now();
            let mut server = world.key_server();
            server.mode = Mode::Sound;
            // A source may ask to wait for 5 minutes, and one answer may still be on its way.
            server.sound_since = now + Duration::from_secs(if asked_to_wait { 310 } else { 10 });
        }
        _ => {
            world.outages.lock().unwrap().network = true;
            world.executor.sleep(duration).await;
            world.outages.lock().unwrap().network = false;
        }
    }
    world.trace(|| format!("the {kind} is back"));
}

fn any_group(world: &World, rng: &mut Rng) -> Option<Group> {
    let fleet = world.fleet();
    let up = fleet.processes.iter().filter(|it| it.running.is_some());
    let up: Vec<Group> = up.map(|process| process.group).collect();
    (!up.is_empty()).then(|| *rng.pick(&up))
}

/// Runs a plan.
pub(crate) fn run(plan: &Plan, traced: bool) -> Report {
    let directory = Directory::new();
    let world = World::new(plan.clone(), &directory.0, traced);
    world.run();
    let trace = world.trace.lock().unwrap().take();
    let (violation, load) = {
        let oracle = world.oracle();
        (oracle.violation().cloned(), oracle.load)
    };
    world.executor.clear();
    let running: BTreeMap<_, _> = (world.fleet().processes.iter_mut())
        .enumerate()
        .map(|(place, process)| (place, process.running.take()))
        .collect();
    drop(running);
    Report {
        violation,
        load,
        trace,
    }
}

/// A directory for databases, in memory where there is such a place, which goes with this.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.into()
        } else {
            std::env::temp_dir()
        };
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let path = parent.join(format!(
            "gemini-webhooks-fleet-{}-{number}",
            std::process::id()
        ));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
