//! Our side: machines, the processes on them, and the handler.

use std::{
    future::pending,
    panic::resume_unwind,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use gemini_webhooks::{
    Attempt, Delivery, Error, Inbox, PerRequest, Receiver, Secret, SharedVerifier, Verifier,
    keys::{BoxFuture, FetchError, Fetched, KeySource, RefreshedKeys},
    receiver::{HandlerError, Outcome, Received, Reply},
    store::Claim,
    testing::{Clock, Random, SignedDelivery},
};

use crate::{
    adversary,
    executor::{Group, OUTSIDE, Sender, Waiter, channel},
    google::{Mode, wall},
    oracle::{
        Identity,
        entries::{ATTEMPT_TIMEOUT, LEASE, MAX_ATTEMPTS},
    },
    plan,
    rng::Rng,
    store::{Backend, SimulatedStore},
    world::World,
};

/// The time within which a process knows keys that were published, with nobody in its way.
const RECOVERY: Duration = Duration::from_secs(60);

pub(crate) struct Fleet {
    pub(crate) processes: Vec<Process>,
    /// The secrets that a process is configured with when it starts, and from then on.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) last_group: u64,
}

/// A place for a process, in which one runs after the other.
pub(crate) struct Process {
    pub(crate) clock: Clock,
    pub(crate) backend: Backend,
    pub(crate) group: Group,
    pub(crate) running: Option<Running>,
    /// To shut its worker down; `None` if there is none, or it is told.
    pub(crate) shutdown: Option<Shutdown>,
    /// The time since which nothing has happened to it.
    pub(crate) calm_since: Duration,
}

pub(crate) struct Shutdown {
    begin: Sender<()>,
    ended: Waiter<()>,
}

#[derive(Clone)]
pub(crate) struct Running {
    endpoint: Endpoint,
    verifier: SharedVerifier,
    keys: Arc<RefreshedKeys>,
    fetches: Arc<Mutex<Fetches>>,
    store: Arc<SimulatedStore>,
}

#[derive(Clone)]
enum Endpoint {
    Handle(Receiver),
    Accept(Inbox),
}

/// The fetches of a process.
#[derive(Default)]
struct Fetches {
    begun: Vec<Duration>,
    /// The name of the keys that the process has to have.
    landed: Option<String>,
}

/// The sender of a request, for the checks of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An attempt of Google's at one of our jobs.
    Genuine(u64),
    /// A copy of such an attempt, made by the network or by the adversary.
    Copy,
    /// A copy that is too old to be accepted, a forgery, or a foreign event without a token.
    Forged,
    /// A foreign event with a token that has leaked.
    Leaked,
    /// A foreign event with a token that has leaked and expired: an inbox keeps it as a dead letter.
    Outdated,
}

pub(crate) struct Request {
    pub(crate) sent: SignedDelivery,
    pub(crate) uri: String,
    pub(crate) purpose: Purpose,
    /// The number of await points after which the client hangs up.
    pub(crate) hangs_up: Option<u32>,
    /// The process that it is for; `None` for any.
    pub(crate) place: Option<usize>,
}

impl Request {
    /// The same once more, as the network repeats it.
    pub(crate) fn again(&self) -> Self {
        Self {
            sent: self.sent.clone(),
            uri: self.uri.clone(),
            purpose: Purpose::Copy,
            hangs_up: None,
            place: None,
        }
    }
}

/// A panic of a handler, which is no fault.
pub(crate) struct HandlerPanic;

/// Starts the process in a place.
pub(crate) fn start(world: &World, place: usize) {
    let now = world.executor.now();
    let mut fleet = world.fleet();
    fleet.last_group += 1;
    let group = Group(fleet.last_group);
    let mut rng = Rng::new(world.plan.seed, &format!("process {}", group.0));
    let secrets = fleet.secrets.clone();
    let process = &mut fleet.processes[place];
    let clock = process.clock.clone();
    let fetches = Arc::<Mutex<Fetches>>::default();
    let source = Source {
        world: world.clone(),
        place,
        fetches: Arc::clone(&fetches),
        rng: Mutex::new(Rng::new(rng.next(), "source")),
    };
    let keys = RefreshedKeys::new(source)
        .stale_for(Duration::from_secs(3 * 3600))
        .clock(clock.clone())
        .random(&Random::seeded(rng.next()));
    let keys = Arc::new(keys);
    let verifier = SharedVerifier::from(verifier(world, &clock, &keys, &secrets));
    let store = SimulatedStore::open(world, &process.backend, &clock, group, rng.next());
    let store = Arc::new(store);
    let endpoint = match world.plan.mode() {
        plan::Mode::Handle => {
            let receiver = Receiver::builder(verifier.clone(), Arc::clone(&store));
            Endpoint::Handle(receiver.namespace("fleet").build().unwrap())
        }
        plan::Mode::Inbox => {
            let inbox = Inbox::builder(verifier.clone(), Arc::clone(&store));
            Endpoint::Accept(inbox.namespace("fleet").build().unwrap())
        }
    };
    let running = Running {
        endpoint,
        verifier,
        keys: Arc::clone(&keys),
        fetches,
        store,
    };
    process.group = group;
    process.running = Some(running.clone());
    process.shutdown = running.inbox().is_some().then(|| {
        let (begin, told) = channel();
        let (end, ended) = channel();
        let worker = work_off(world.clone(), place, running, told, rng);
        world.executor.spawn(group, None, async move {
            worker.await;
            end.send(());
        });
        Shutdown { begin, ended }
    });
    process.calm_since = now;
    drop(fleet);
    world.trace(|| format!("process {place} starts"));
    let executor = world.executor.clone();
    let world = world.clone();
    executor.spawn(group, None, async move {
        keys.run(|error| world.trace(|| format!("process {place} fetched no keys: {error}")))
            .await;
    });
}

/// Runs the worker of a process.
async fn work_off(
    world: World,
    place: usize,
    running: Running,
    shutdown: Waiter<()>,
    mut rng: Rng,
) {
    let inbox = running.inbox().unwrap();
    let worker = (inbox.worker())
        .concurrency(*rng.pick(&[1, 2, 8, 8]))
        .lease(LEASE)
        .attempt_timeout(ATTEMPT_TIMEOUT)
        .max_attempts(MAX_ATTEMPTS)
        .backoff(Duration::from_secs(1), Duration::from_secs(300))
        .poll_interval(Duration::from_secs(*rng.pick(&[60, 300, 900])))
        .random(Random::seeded(rng.next()))
        .on_store_error({
            let world = world.clone();
            move |error| world.trace(|| format!("worker of process {place}: {error}"))
        });
    let handler = |received| handle(&world, &running, received);
    let shutdown = async {
        let _ = shutdown.await;
        world.trace(|| format!("worker of process {place} is to shut down"));
    };
    worker.run(handler, shutdown).await;
    world.trace(|| format!("worker of process {place} has shut down"));
    let (group, now) = (running.store.group, running.store.now());
    world.oracle().shut_down(group, now);
}

/// Shuts the worker of a process down, and starts another process in its place.
pub(crate) async fn restart(world: World, place: usize, down: Duration) {
    let (group, shutdown) = {
        let process = &mut world.fleet().processes[place];
        (process.group, process.shutdown.take())
    };
    // It is down, or it is told already.
    let Some(shutdown) = shutdown else { return };
    shutdown.begin.send(());
    if shutdown.ended.await.is_none() {
        return;
    }
    let was_to_crash = world.executor.end(group);
    let dropped = world.fleet().processes[place].running.take();
    drop(dropped);
    world.oracle().load.restarts += 1;
    world.oracle().load.crashes += u64::from(was_to_crash);
    world.executor.sleep(down).await;
    start(&world, place);
}

/// Somebody looks after the dead letters, in one of the processes.
pub(crate) fn look_after_dead_letters(world: &World, rng: &mut Rng) {
    let places = world.fleet().processes.len();
    let process = rng.index(places);
    let (group, running) = {
        let process = &world.fleet().processes[process];
        (process.group, process.running.clone())
    };
    let Some(inbox) = running.as_ref().and_then(Running::inbox).cloned() else {
        return;
    };
    let mut rng = Rng::new(rng.next(), "dead letters");
    world.executor.spawn(group, None, async move {
        let _ = inbox.stats().await;
        let mut last = 0;
        let limit = *rng.pick(&[1, 5, 1_000]);
        while let Ok(page) = inbox.dead_letters(last, limit).await {
            for letter in &page {
                // One that was dead from the beginning is not ours.
                if letter.attempts > 0 && rng.chance(30) {
                    let _ = inbox.retry(letter.id).await;
                } else if rng.chance(20) {
                    let _ = inbox.discard(letter.id).await;
                }
            }
            match page.last() {
                Some(letter) if page.len() == limit => last = letter.id,
                _ => return,
            }
        }
    });
}

/// Changes the secrets of all processes, now and when they start again.
pub(crate) fn configure(world: &World, secrets: Vec<Secret>) {
    let mut fleet = world.fleet();
    for process in &fleet.processes {
        if let Some(running) = &process.running {
            let verifier = verifier(world, &process.clock, &running.keys, &secrets);
            running.verifier.replace(verifier);
        }
    }
    fleet.secrets = secrets;
}

fn verifier(
    world: &World,
    clock: &Clock,
    keys: &Arc<RefreshedKeys>,
    secrets: &[Secret],
) -> Verifier {
    let tokens = world.tokens.clone().clock(clock.clone());
    let mut per_request = PerRequest::with_job_tokens(Arc::clone(keys), tokens);
    if world.require_uri_token {
        per_request = per_request.require_uri_token();
    }
    let builder = Verifier::builder().per_request(per_request);
    let builder = secrets.iter().fold(builder, |builder, secret| {
        // A rotation keeps the name, which is a part of the key.
        if world.plan.seed.is_multiple_of(2) {
            builder.named_secret("main", secret.clone())
        } else {
            builder.secret(secret.clone())
        }
    });
    builder.clock(clock.clone()).build().unwrap()
}

impl World {
    /// The store of a process that runs.
    pub(crate) fn store_of(&self, group: Group) -> Arc<SimulatedStore> {
        let fleet = self.fleet();
        let process = fleet.processes.iter().find(|it| it.group == group).unwrap();
        Arc::clone(&process.running.as_ref().unwrap().store)
    }

    /// Sends a request to one of the processes that run. `None` if there is no answer.
    pub(crate) async fn request(&self, request: Request) -> Option<u16> {
        let (answer, waiter) = channel();
        self.submit(request, answer)?;
        waiter.await
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn submit(&self, request: Request, answer: Sender<u16>) -> Option<()> {
        let (place, group, running) = {
            let fleet = self.fleet();
            let up = fleet.processes.iter().enumerate();
            let up = up.filter(|(_, it)| it.accepts());
            let up = up.filter_map(|(place, it)| Some((place, it.group, it.running.clone()?)));
            let wanted = |place: usize| request.place.is_none_or(|wanted| wanted == place);
            let up: Vec<_> = up.filter(|(place, ..)| wanted(*place)).collect();
            if up.is_empty() {
                return None;
            }
            self.balancer().pick(&up).clone()
        };
        let world = self.clone();
        let fuse = request.hangs_up;
        self.executor.spawn(group, fuse, async move {
            let status = serve(&world, place, &running, &request).await;
            answer.send(status);
        });
        Some(())
    }
}

/// One request, as a server hands it to the receiver.
async fn serve(world: &World, place: usize, running: &Running, request: &Request) -> u16 {
    let Request {
        sent, uri, purpose, ..
    } = request;
    let (begun, task) = (world.executor.now(), world.executor.running());
    match purpose {
        Purpose::Genuine(_) => world.oracle().load.attempts += 1,
        Purpose::Copy => {}
        Purpose::Forged | Purpose::Leaked | Purpose::Outdated => {
            world.oracle().load.adversary += 1;
        }
    }
    let headers = sent.headers();
    let attempt = Attempt::from_pairs(headers).map(|attempt| attempt.with_uri(uri));
    let reply = match &running.endpoint {
        Endpoint::Handle(receiver) => {
            let handler = |received| handle(world, running, received);
            receiver.handle(attempt, &sent.body, handler).await
        }
        Endpoint::Accept(inbox) => inbox.accept(attempt, &sent.body).await,
    };
    let operations = running.store.operations_of(task);
    world.trace(|| {
        let code = reply.outcome.code();
        format!(
            "process {place} answers {} to {} ({purpose:?}): {code}",
            reply.status, sent.id
        )
    });
    if running.inbox().is_some() {
        check_inbox(world, request, &reply);
    }
    check(world, place, request, &reply, begun, operations);
    reply.status
}

fn check_inbox(world: &World, request: &Request, reply: &Reply<'_>) {
    let mut oracle = world.oracle();
    let Some(delivery) = &reply.delivery else {
        return;
    };
    let key = format!("fleet/{}", delivery.idempotency_key());
    oracle.answered_by_inbox(&key, reply.status);
    // Tokens that have leaked expire too, and those of genuine deliveries do so after the last retry.
    let expected = match (request.purpose, &reply.outcome) {
        (Purpose::Outdated, outcome) => matches!(outcome, Outcome::SetAside(_)),
        (Purpose::Genuine(_), outcome) => matches!(outcome, Outcome::Accepted),
        (_, outcome) => matches!(outcome, Outcome::Accepted | Outcome::SetAside(_)),
    };
    match &reply.outcome {
        _ if expected => oracle.stored(&identity(delivery).unwrap()),
        Outcome::Duplicate | Outcome::StoreUnavailable(_) => {}
        other => {
            let (id, code) = (&request.sent.id, other.code());
            oracle.violated("authentic", format_args!("{id} is answered: {code}"));
        }
    }
}

fn check(
    world: &World,
    place: usize,
    request: &Request,
    reply: &Reply<'_>,
    begun: Duration,
    operations: u64,
) {
    let (now, id) = (world.executor.now(), &request.sent.id);
    let running_since = world.fleet().processes[place].calm_since;
    let calm_since = running_since.max(world.key_server().sound_since);
    let mut oracle = world.oracle();
    let handles = world.plan.mode() == plan::Mode::Handle;
    let forged = match request.purpose {
        Purpose::Forged => true,
        Purpose::Outdated => handles,
        _ => false,
    };
    if forged && reply.status < 400 {
        oracle.violated(
            "authentic",
            format_args!("a forgery is answered {}: {id}", reply.status),
        );
    }
    // A clock that has stepped back by 2 minutes makes a lease longer by as much.
    let longest = Receiver::DEFAULT_LEASE + Duration::from_secs(125);
    if reply.retry_after.is_some_and(|wait| wait > longest) {
        let wait = reply.retry_after;
        oracle.violated("cost", format_args!("{id} is to come again after {wait:?}"));
    }
    let Outcome::Refused(refusal) = &reply.outcome else {
        let identity = reply.delivery.as_ref().and_then(identity);
        if handles {
            oracle.answered(&identity.unwrap(), reply.status);
        }
        return;
    };
    oracle.load.refused += 1;
    if operations > 0 {
        oracle.violated(
            "cost",
            format_args!("{id} was refused after {operations} operations"),
        );
    }
    // Other tasks of the process may run first, and a pause ends when it ends.
    let longest = RefreshedKeys::LONGEST_WAIT + Duration::from_millis(100);
    let taken = now.saturating_sub(begun);
    if taken > longest && running_since < begun {
        oracle.violated("cost", format_args!("{id} was refused after {taken:?}"));
    }
    if matches!(request.purpose, Purpose::Genuine(_)) {
        let by_keys = refusal.is_refreshable();
        if by_keys && begun.saturating_sub(calm_since) > RECOVERY {
            oracle.violated(
                "recovery",
                format_args!(
                    "{id} is refused ({}), process {place} calm since {calm_since:?}, now {now:?}",
                    refusal.code()
                ),
            );
        }
        let by_window = matches!(
            refusal,
            Error::TimestampTooOld { .. } | Error::TimestampTooNew { .. }
        );
        if !by_keys && !by_window {
            oracle.violated("lost", format_args!("{id} is refused: {refusal}"));
        }
    }
}

/// The process in a place has the keys that it fetched last, whatever has landed.
pub(crate) fn check_keys(world: &World, place: usize) {
    let running = world.fleet().processes[place].running.clone();
    if let Some(running) = running {
        running.check_keys(world, place);
    }
}

impl Process {
    /// It is not shutting down.
    fn accepts(&self) -> bool {
        let inbox = self.running.as_ref().and_then(Running::inbox);
        inbox.is_none() || self.shutdown.is_some()
    }
}

impl Running {
    fn inbox(&self) -> Option<&Inbox> {
        match &self.endpoint {
            Endpoint::Handle(_) => None,
            Endpoint::Accept(inbox) => Some(inbox),
        }
    }

    /// Only the most recent fetch may replace the keys.
    fn check_keys(&self, world: &World, place: usize) {
        let fetches = self.fetches.lock().unwrap();
        let current = self.keys.keys().get();
        let Some(current) = current.map(|keys| format!("{keys:?}")) else {
            return;
        };
        if let Some(name) = &fetches.landed
            && !current.contains(name.as_str())
        {
            let what = format!("process {place} does not have the keys that it fetched last");
            world.oracle().violated("late keys", what);
        }
    }
}

/// The handler of all processes. It tells the oracle when a delivery may be completed.
async fn handle(
    world: &World,
    running: &Running,
    received: Received<'_>,
) -> Result<(), HandlerError> {
    let claim = received.claim().clone();
    world.trace(|| format!("handler begins {}", claim.key()));
    let handling = Handling::begin(world, running, &claim);
    let result = work(world, running, received).await;
    world.trace(|| format!("handler ends {}: {result:?}", claim.key()));
    if let Some(mut handling) = handling {
        handling.returned = true;
    }
    if result
        .as_ref()
        .map_or_else(HandlerError::is_permanent, |()| true)
    {
        let mut oracle = world.oracle();
        oracle.finished(&claim);
        if claim.entry().is_some() {
            oracle.returned(&claim, world.executor.now(), result.is_err());
        }
    }
    result
}

/// A handler of a worker that runs.
struct Handling<'w> {
    world: &'w World,
    group: Group,
    claim: &'w Claim,
    returned: bool,
}

impl<'w> Handling<'w> {
    fn begin(world: &'w World, running: &Running, claim: &'w Claim) -> Option<Self> {
        claim.entry()?;
        let now = world.executor.now();
        let group = running.store.group;
        world.oracle().handler_begins(group, claim, now);
        Some(Self {
            world,
            group,
            claim,
            returned: false,
        })
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        let now = self.world.executor.now();
        let crashed = !self.world.executor.is_alive(self.group);
        let dropped = !self.returned && !crashed && !thread::panicking();
        let mut oracle = self.world.oracle();
        oracle.handler_ends(self.claim, now, dropped);
    }
}

async fn work(
    world: &World,
    running: &Running,
    received: Received<'_>,
) -> Result<(), HandlerError> {
    let event = received.event()?.clone();
    let identity = identity(received.delivery()).unwrap();
    let number = identity
        .0
        .strip_prefix("batches/")
        .and_then(|number| number.parse().ok());
    let genuine = number.and_then(|number: u64| world.google().deliveries.get(&number).cloned());
    world
        .oracle()
        .started(genuine.as_ref(), &identity, &event, received.claim());
    let run = world.next_run();
    let mut rng = Rng::new(world.plan.seed, &format!("run {run} of {identity:?}"));
    if world.plan.handler_faults == 0 {
        return Ok(());
    }
    let in_worker = received.claim().entry().is_some();
    if in_worker && number.is_some_and(|number| number % 150 == 77) {
        // It kills each process that handles it.
        world.executor.crash_after(running.store.group, 0);
        return pending().await;
    }
    if in_worker && rng.chance(4) {
        return pending().await;
    }
    let time = match rng.below(20) {
        0..15 => rng.time(0, 500),
        15..17 => rng.time(1_000, 30_000),
        // Longer than the lease.
        _ => rng.time(58_000, 200_000),
    };
    let fate = match rng.below(20) {
        // Whoever has lost the lease must not release that of another.
        _ if time > Receiver::DEFAULT_LEASE && rng.chance(40) => 1,
        fate => fate,
    };
    if fate == 0 {
        world.executor.sleep(time / 2).await;
        resume_unwind(Box::new(HandlerPanic));
    }
    world.executor.sleep(time).await;
    match fate {
        1 if in_worker => {
            let error = HandlerError::from("the handler wants to wait");
            Err(error.retry_after(rng.time(0, 600_000)))
        }
        1..4 => Err(HandlerError::from("the handler fails")),
        4 => Err(HandlerError::permanent("the handler fails for good")),
        5..12 => running.store.effect(&received, &identity).await,
        _ => Ok(()),
    }
}

/// The resource and the context of a delivery, if it is an event.
fn identity(delivery: &Delivery<'_>) -> Option<Identity> {
    let resource = delivery.event().ok()?.data.id().unwrap_or_default();
    let context = delivery.job().map(|job| job.context.clone());
    Some((resource.to_owned(), context.unwrap_or_default()))
}

/// The key server, as a process sees it.
struct Source {
    world: World,
    place: usize,
    fetches: Arc<Mutex<Fetches>>,
    rng: Mutex<Rng>,
}

impl KeySource for Source {
    fn fetch<'s>(&'s self, etag: Option<&'s str>) -> BoxFuture<'s, Result<Fetched, FetchError>> {
        Box::pin(self.ask(etag))
    }
}

impl Source {
    async fn ask(&self, etag: Option<&str>) -> Result<Fetched, FetchError> {
        let Self { world, place, .. } = self;
        let now = world.executor.now();
        let number = {
            let mut fetches = self.fetches.lock().unwrap();
            fetches.begun.push(now);
            fetches.begun.len()
        };
        let name = format!("fetch-{number}-end");
        world.oracle().load.fetches += 1;
        self.count(now);
        let (mode, document) = {
            let server = world.key_server();
            (server.mode, server.document(&name))
        };
        world.trace(|| format!("process {place} asks for keys: {mode:?} {}", document.etag));
        if world.plan.pauses > 0 && self.rng().chance(3) {
            // For longer than a fetch may take, so that another one begins before this one lands.
            let pause = pause(world.clone(), *place, self.rng().time(11_000, 20_000));
            world.executor.spawn(OUTSIDE, None, pause);
            if world.plan.acts > 0 {
                let strike = adversary::strike(world.clone(), *place);
                world.executor.spawn(OUTSIDE, None, strike);
            }
        }
        let latency = match mode {
            Mode::Slow => self.rng().time(500, 30_000),
            _ => self.rng().time(20, 300),
        };
        world.executor.sleep(latency).await;
        let json = match mode {
            Mode::Away(wait) => {
                let error = FetchError::from("the key server is away");
                return Err(match wait {
                    Some(seconds) => error.retry_after(Duration::from_secs(seconds)),
                    None => error,
                });
            }
            Mode::Wrong => br#"{"keys": []}"#.to_vec(),
            Mode::Sound | Mode::Slow | Mode::Impersonated => document.json,
        };
        world.landed(*place);
        let max_age = Some(document.max_age);
        let unchanged = etag == Some(&*document.etag) && mode != Mode::Wrong;
        let mut fetches = self.fetches.lock().unwrap();
        if unchanged {
            return Ok(Fetched::Unchanged { max_age });
        }
        if fetches.begun.len() == number && mode != Mode::Wrong {
            fetches.landed = Some(name);
        }
        Ok(Fetched::Document {
            json,
            max_age,
            etag: Some(document.etag),
        })
    }

    fn rng(&self) -> std::sync::MutexGuard<'_, Rng> {
        self.rng.lock().unwrap()
    }

    /// Refused deliveries cause two fetches a minute at most, failures their retries, and there is
    /// the periodic one.
    fn count(&self, now: Duration) {
        let fetches = self.fetches.lock().unwrap();
        let from = now.saturating_sub(Duration::from_secs(60));
        let recent = fetches
            .begun
            .iter()
            .rev()
            .take_while(|begun| **begun > from)
            .count();
        // Where a fetch has failed, it is tried again sooner.
        let sound_since = self.world.key_server().sound_since;
        let sound = sound_since.saturating_add(Duration::from_secs(60)) < now;
        if recent > if sound { 4 } else { 10 } {
            let what = format!(
                "process {} fetched keys {recent} times in a minute",
                self.place
            );
            self.world.oracle().violated("cost", what);
        }
    }
}

/// Sets the wall clock of a machine wrong by so many milliseconds.
pub(crate) fn step_clock(world: &World, place: usize, offset: i64) {
    let true_time = wall(world.executor.now());
    world.oracle().last_step = world.executor.now();
    let clock = world.fleet().processes[place].clock.clone();
    clock.set(true_time + time::Duration::milliseconds(offset));
}

/// Stops a process for a while, and lets it go on.
pub(crate) async fn pause(world: World, place: usize, duration: Duration) {
    let group = world.fleet().processes[place].group;
    world.trace(|| format!("process {place} pauses for {duration:?}"));
    world.executor.pause(group, true);
    world.oracle().paused(group, world.executor.now());
    world.executor.sleep(duration).await;
    world.executor.pause(group, false);
    let now = world.executor.now();
    world.oracle().goes_on(group, now);
    world.fleet().processes[place].calm_since = now;
}

/// A process has crashed: another one starts in its place.
pub(crate) fn crashed(world: &World, group: Group) {
    let mut fleet = world.fleet();
    let Some(place) = fleet
        .processes
        .iter()
        .position(|process| process.group == group)
    else {
        return;
    };
    let dropped = fleet.processes[place].running.take();
    drop(fleet);
    drop(dropped);
    world.oracle().load.crashes += 1;
    world.oracle().crashed(group);
    world.trace(|| format!("process {place} crashes"));
    let down = world.balancer().time(500, 60_000);
    let world = world.clone();
    world.executor.clone().spawn(OUTSIDE, None, async move {
        world.executor.sleep(down).await;
        start(&world, place);
    });
}
