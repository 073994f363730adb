//! Google's side: deliveries that are retried for 24 hours, the keys that sign them, and the key server.

use std::{collections::BTreeMap, time::Duration};

use gemini_webhooks::{
    Event, EventType, JobTokens, Secret,
    testing::{Random, SignedDelivery, Signer, SigningKeys},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    fleet::{Purpose, Request},
    plan::Plan,
    rng::Rng,
    world::World,
};

const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
/// The time after which a sender gives an attempt up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The true time, so long after the beginning.
pub(crate) fn wall(now: Duration) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap() + now
}

/// The way in which a delivery is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    V1,
    V1a,
    Rs256,
    EdDsa,
}

pub(crate) struct Google {
    pub(crate) keys: SigningKeys,
    /// Those that sign now: two of them while a rotation is under way.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) deliveries: BTreeMap<u64, Genuine>,
    random: Random,
}

/// A delivery of one of our jobs.
#[derive(Clone)]
pub(crate) struct Genuine {
    pub(crate) number: u64,
    pub(crate) signing: Signing,
    pub(crate) body: String,
    pub(crate) event: Event,
    pub(crate) uri: String,
    /// The context of its job token; empty for a project-level webhook.
    pub(crate) context: String,
    pub(crate) created: Duration,
    /// The answers to it never arrive, so that it is retried to the last.
    pub(crate) deaf: bool,
}

impl Google {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "google's keys");
        let random = Random::seeded(rng.next());
        Self {
            keys: SigningKeys::generate_from(&random),
            secrets: vec![secret(&mut rng)],
            deliveries: BTreeMap::new(),
            random,
        }
    }

    pub(crate) fn rotate_keys(&mut self) -> SigningKeys {
        self.keys = SigningKeys::generate_from(&self.random);
        self.keys.clone()
    }

    /// Signs an attempt.
    pub(crate) fn sign(
        &self,
        signing: Signing,
        id: &str,
        now: Duration,
        body: &str,
    ) -> SignedDelivery {
        let at = wall(now);
        match signing {
            Signing::V1 => {
                let signer = Signer::v1(&self.secrets[0]);
                let others = self.secrets.iter().skip(1);
                others.fold(signer, Signer::and_v1).sign(id, at, body)
            }
            Signing::V1a => {
                let mut sent = Signer::v1a(&self.keys).sign(id, at, body);
                if id.ends_with('7') {
                    // Beside a signature under a secret that we do not have.
                    sent.signature = format!("v1,{}= {}", "A".repeat(43), sent.signature);
                }
                sent
            }
            Signing::Rs256 => Signer::jwt(&self.keys, "fleet").sign(id, at, body),
            Signing::EdDsa => sign_eddsa(&self.keys, &self.keys.ed25519_id(0), id, now, body),
        }
    }
}

/// Signs a body as the claims of a JWT with an Ed25519 key.
pub(crate) fn sign_eddsa(
    keys: &SigningKeys,
    key_id: &str,
    id: &str,
    now: Duration,
    body: &str,
) -> SignedDelivery {
    let at = wall(now);
    let mut claims: Value = serde_json::from_str(body).unwrap();
    let issued = at.unix_timestamp();
    claims["iss"] = "https://generativelanguage.googleapis.com".into();
    claims["aud"] = "fleet".into();
    claims["iat"] = issued.into();
    claims["exp"] = (issued + 300).into();
    let header = json!({"alg": "EdDSA", "kid": key_id, "typ": "JWT"});
    let mut sent = Signer::v1a(keys).sign(id, at, body);
    sent.signature = keys.jwt(&header, &claims);
    sent
}

pub(crate) fn secret(rng: &mut Rng) -> Secret {
    Secret::from_bytes(&rng.bytes::<32>()).unwrap()
}

/// The body of an event about a resource.
pub(crate) fn body(rng: &mut Rng, resource: &str, at: Option<Duration>, metadata: Value) -> String {
    let event_type = *rng.pick(&[
        "batch.succeeded",
        "batch.failed",
        "video.generated",
        "interaction.completed",
    ]);
    let event_type = EventType::from(event_type);
    let mut body = json!({"type": event_type.as_str(), "version": "v1", "data": {"id": resource}});
    if let Some(at) = at {
        let format = &time::format_description::well_known::Rfc3339;
        body["timestamp"] = wall(at).format(format).unwrap().into();
    }
    if !metadata.is_null() {
        body["user_metadata"] = metadata;
    }
    body.to_string()
}

/// The time at which the keys are replaced for the first time, the second, and so on.
pub(crate) fn rotation(plan: &Plan, number: u64) -> Duration {
    let third = plan.milliseconds() / 3;
    let mut rng = Rng::new(plan.seed, &format!("time of rotation {number}"));
    Duration::from_millis(number * third) + rng.time(600_000, third / 2)
}

/// One delivery, from its creation to its last attempt.
pub(crate) async fn deliver(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("delivery {number}"));
    let mut created = rng.time(1_000, world.plan.milliseconds());
    if number.is_multiple_of(16) && world.plan.key_rotations > 0 {
        // While the receivers do not have the keys yet that it is signed with.
        let rotation = rotation(&world.plan, rng.below(world.plan.key_rotations));
        created = rotation + rng.time(0, 300_000);
    }
    if number % 6 == 5 {
        // Many jobs end at once, several times a day.
        let burst = Rng::new(world.plan.seed, &format!("burst {}", rng.below(4)))
            .time(1_000, world.plan.milliseconds());
        created = burst + rng.time(0, 200);
    }
    world.executor.sleep_until(created).await;
    let genuine = create(&world, &mut rng, number, created);
    let deaf = genuine.deaf;
    let id = format!("msg_{number}");
    let mut wait = rng.time(3_000, 8_000);
    loop {
        let now = world.executor.now();
        let sent = world
            .google()
            .sign(genuine.signing, &id, now, &genuine.body);
        let status = attempt(&world, &mut rng, &genuine, sent).await;
        world.trace(|| format!("google  attempt at {number}: {status:?}"));
        if !deaf && status.is_some_and(|status| status / 100 == 2) {
            world.oracle().acknowledged(number);
            return;
        }
        let now = world.executor.now();
        let last = (created + DAY).saturating_sub(Duration::from_secs(20));
        if now >= last {
            break;
        }
        wait = (wait * 2).min(HOUR);
        let jitter = rng.time(0, u64::try_from(wait.as_millis()).unwrap() / 10);
        world
            .executor
            .sleep_until((now + wait + jitter).min(last))
            .await;
    }
    world.oracle().given_up(number, deaf);
}

fn create(world: &World, rng: &mut Rng, number: u64, created: Duration) -> Genuine {
    let eighth = if rng.chance(50) {
        // It takes as long as ten of the others.
        Signing::Rs256
    } else {
        Signing::EdDsa
    };
    let signing = *rng.pick(&[
        Signing::V1,
        Signing::V1,
        Signing::V1,
        Signing::V1a,
        Signing::V1a,
        Signing::V1a,
        Signing::EdDsa,
        eighth,
    ]);
    let resource = format!("batches/{number}");
    let (mut uri, mut context, mut metadata) = ("/webhook".to_owned(), String::new(), Value::Null);
    if signing != Signing::V1 {
        context = format!("job/{number}");
        // Some expire while the delivery is retried.
        let tokens = world.minted_by(number).clone();
        let tokens = if rng.chance(10) {
            tokens.valid_for(2 * HOUR)
        } else {
            tokens
        };
        let token = tokens.mint_for(&context).unwrap();
        if world.require_uri_token || rng.chance(80) {
            uri = JobTokens::callback_uri(&uri, &token);
        } else {
            metadata = JobTokens::user_metadata(&token).into();
        }
        if rng.chance(10) {
            world.loot().leak(token, context.clone());
        }
    }
    // A `v1a` event may have no time. A JWT without one has a new key with each attempt.
    let timeless = signing == Signing::V1a && rng.chance(10);
    let body = body(rng, &resource, (!timeless).then_some(created), metadata);
    let genuine = Genuine {
        number,
        signing,
        event: serde_json::from_str(&body).unwrap(),
        body,
        uri,
        context,
        created,
        deaf: rng.chance(4),
    };
    world.trace(|| format!("google  creates {number}: {signing:?} {}", genuine.uri));
    world.google().deliveries.insert(number, genuine.clone());
    genuine
}

/// One attempt over a network that may lose, repeat and delay.
async fn attempt(
    world: &World,
    rng: &mut Rng,
    genuine: &Genuine,
    sent: SignedDelivery,
) -> Option<u16> {
    let faults = world.plan.network_faults > 0;
    let request = Request {
        sent,
        uri: genuine.uri.clone(),
        purpose: Purpose::Genuine(genuine.number),
        hangs_up: (faults && rng.chance(8)).then(|| u32::try_from(rng.below(8)).unwrap()),
        place: None,
    };
    if faults {
        if rng.chance(30) || genuine.deaf {
            world
                .loot()
                .capture(genuine, &request.sent, world.executor.now());
        }
        if rng.chance(6) || world.network_is_down() {
            world.executor.sleep(PATIENCE).await;
            return None;
        }
        if rng.chance(6) {
            let (world, copy, later) = (world.clone(), request.again(), rng.time(1, 60_000));
            world
                .executor
                .clone()
                .spawn(crate::executor::OUTSIDE, None, async move {
                    world.executor.sleep(later).await;
                    let _ = world.request(copy).await;
                });
        }
        let longest = if rng.chance(5) { 30_000 } else { 60 };
        world.executor.sleep(rng.time(1, longest)).await;
    }
    let answer = world.within(PATIENCE, world.request(request)).await;
    if genuine.deaf || (faults && rng.chance(5)) {
        return None;
    }
    answer
}

/// The behaviour of the key server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Sound,
    Slow,
    /// It asks to wait for so many seconds.
    Away(Option<u64>),
    Wrong,
    /// It serves the keys of the adversary.
    Impersonated,
}

pub(crate) struct KeyServer {
    pub(crate) mode: Mode,
    /// Two sets while a rotation is under way.
    pub(crate) published: Vec<SigningKeys>,
    pub(crate) evil: SigningKeys,
    /// Of the published document.
    pub(crate) version: u64,
    max_age: Duration,
    /// The time from which it serves the right keys, and from which nobody waits because it asked.
    pub(crate) sound_since: Duration,
}

/// A document as it was when it was asked for.
pub(crate) struct Document {
    pub(crate) json: Vec<u8>,
    pub(crate) etag: String,
    pub(crate) max_age: Duration,
}

impl KeyServer {
    pub(crate) fn new(seed: u64, keys: SigningKeys) -> Self {
        let mut rng = Rng::new(seed, "key server");
        let random = Random::seeded(rng.next());
        Self {
            mode: Mode::Sound,
            published: vec![keys],
            evil: SigningKeys::generate_from(&random),
            version: 0,
            max_age: Duration::from_secs(300 + rng.below(3_300)),
            sound_since: Duration::ZERO,
        }
    }

    pub(crate) fn publish(&mut self, keys: Vec<SigningKeys>, now: Duration) {
        self.published = keys;
        self.version += 1;
        self.sound_since = self.sound_since.max(now);
    }

    /// The document, with one key more that is of no use, by whose name it can be recognized.
    pub(crate) fn document(&self, name: &str) -> Document {
        let sets: Vec<&SigningKeys> = match self.mode {
            Mode::Impersonated => vec![&self.evil],
            _ => self.published.iter().collect(),
        };
        let (mut json, mut keys) = (json!({}), Vec::new());
        for set in &sets {
            let mut document: Value = serde_json::from_str(&set.jwks()).unwrap();
            keys.append(document["keys"].as_array_mut().unwrap());
        }
        keys.push(json!({"kty": "oct", "kid": name}));
        json["keys"] = keys.into();
        Document {
            json: json.to_string().into_bytes(),
            etag: format!("{:?} {}", self.mode, self.version),
            max_age: self.max_age,
        }
    }
}
