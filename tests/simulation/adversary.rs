//! Somebody who sees a part of the traffic, has an account at Google and a few leaked tokens, and wants a
//! delivery accepted that is not ours, one of ours lost or handled twice, or the fleet busy.

use std::time::Duration;

use gemini_webhooks::{
    JobTokens, Secret,
    testing::{Random, SignedDelivery, Signer, SigningKeys},
};
use serde_json::{Value, json};

use crate::{
    executor::OUTSIDE,
    fleet::{Purpose, Request},
    google::{self, Genuine, Mode, Signing, body, secret, sign_eddsa, wall},
    rng::Rng,
    world::World,
};

/// The time after which a copy can't be accepted: a side of the window, and the error of the clocks.
const TOO_OLD: Duration = Duration::from_secs(300 + 60 + 40);
/// A token is valid for so much longer.
const LEEWAY: Duration = Duration::from_secs(300);

/// The possessions of the adversary.
pub(crate) struct Loot {
    /// Of its own making.
    keys: SigningKeys,
    captured: Vec<Captured>,
    /// Tokens and their contexts.
    leaked: Vec<(String, String)>,
    /// A token that is valid for an hour.
    pub(crate) short_lived: Option<String>,
    /// A secret that is no longer in use.
    pub(crate) old_secret: Option<Secret>,
}

#[derive(Clone)]
struct Captured {
    genuine: Genuine,
    sent: SignedDelivery,
    at: Duration,
}

impl Loot {
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::seeded(Rng::new(seed, "keys of the adversary").next());
        Self {
            keys: SigningKeys::generate_from(&random),
            captured: Vec::new(),
            leaked: Vec::new(),
            short_lived: None,
            old_secret: None,
        }
    }

    pub(crate) fn capture(&mut self, genuine: &Genuine, sent: &SignedDelivery, at: Duration) {
        self.captured.push(Captured {
            genuine: genuine.clone(),
            sent: sent.clone(),
            at,
        });
    }

    pub(crate) fn leak(&mut self, token: String, context: String) {
        self.leaked.push((token, context));
    }
}

struct Adversary {
    world: World,
    rng: Rng,
    keys: SigningKeys,
    number: u64,
}

/// One act after the other, at any times.
pub(crate) async fn attack(world: World, number: u64) {
    let mut rng = Rng::new(world.plan.seed, &format!("act {number}"));
    let keys = world.loot().keys.clone();
    // A few acts follow the last retries.
    let later = if rng.chance(85) { 0 } else { 25 * 3_600_000 };
    world
        .executor
        .sleep_until(rng.time(0, world.plan.milliseconds() + later))
        .await;
    let mut adversary = Adversary {
        world,
        rng,
        keys,
        number,
    };
    adversary.act().await;
}

/// Keeps all processes from learning new keys. In the other half of the rotations, only honest deliveries
/// ask for newer keys.
pub(crate) async fn block_rotation(world: World, number: u64) {
    let rng = Rng::new(world.plan.seed, &format!("rotation attack {number}"));
    let from = google::rotation(&world.plan, number).saturating_sub(Duration::from_secs(40));
    world.executor.sleep_until(from).await;
    block(world, rng, number).await;
}

/// Has all processes ask for keys, while the key server can't answer.
pub(crate) async fn press_on_an_outage(world: World, number: u64) {
    let rng = Rng::new(world.plan.seed, &format!("outage attack {number}"));
    block(world, rng, number).await;
}

/// Sends, for minutes and in half of the cases, requests that hang up or that want newer keys.
async fn block(world: World, mut rng: Rng, number: u64) {
    if rng.chance(50) {
        return;
    }
    let keys = world.loot().keys.clone();
    let pace = *rng.pick(&[2_000, 4_000, 20_000, 29_900]);
    let hang_up = rng.chance(60);
    let uri = world.loot().leaked[0].0.clone();
    let mut adversary = Adversary {
        world,
        rng,
        keys,
        number,
    };
    let uri = JobTokens::callback_uri("/webhook", &uri);
    for _ in 0..(300_000 / pace).max(20) {
        let places = adversary.world.fleet().processes.len();
        for place in 0..places {
            let mut request = adversary.unknown_key(&uri);
            request.place = Some(place);
            request.hangs_up = hang_up.then(|| u32::try_from(adversary.rng.below(2)).unwrap());
            adversary.submit(request);
        }
        adversary
            .world
            .executor
            .sleep(Duration::from_millis(pace))
            .await;
    }
}

/// Wants newer keys of a process that stands still in the middle of a fetch.
pub(crate) async fn strike(world: World, place: usize) {
    let rng = Rng::new(
        world.plan.seed,
        &format!("strike at {:?}", world.executor.now()),
    );
    let (keys, uri) = {
        let loot = world.loot();
        (
            loot.keys.clone(),
            JobTokens::callback_uri("/webhook", &loot.leaked[0].0),
        )
    };
    world.executor.sleep(Duration::from_secs(5)).await;
    let mut adversary = Adversary {
        world,
        rng,
        keys,
        number: 0,
    };
    for _ in 0..3 {
        let mut request = adversary.unknown_key(&uri);
        request.place = Some(place);
        adversary.submit(request);
    }
}

impl Adversary {
    async fn act(&mut self) {
        let act = self.rng.below(20);
        self.world
            .trace(|| format!("adversary act {}: {act}", self.number));
        match act {
            0 => self.forge_v1(),
            1 => self.forge_per_request(),
            2 => self.forge_token_without_key(),
            3 => self.tamper().await,
            4 => self.mix().await,
            5 | 6 => self.replay().await,
            7 => self.replay_at_the_edge().await,
            8 | 9 => self.replay_as_another_job().await,
            10 => self.foreign_without_token(),
            11 => self.foreign_with_bad_token(),
            12 | 13 => self.foreign_with_leaked_token(),
            14 => self.use_what_is_outdated(),
            15 => self.flood(),
            16 => self.hang_up_again_and_again().await,
            17 => self.stay_away_from_sense(),
            18 => self.forge_as_the_key_server().await,
            _ => self.strip().await,
        }
    }

    fn id(&mut self) -> String {
        format!("msg_{}_{}", self.number, self.rng.below(1_000))
    }

    fn now(&self) -> Duration {
        self.world.executor.now()
    }

    fn send(&mut self, sent: SignedDelivery, uri: &str, purpose: Purpose) {
        let hangs_up = self
            .rng
            .chance(20)
            .then(|| u32::try_from(self.rng.below(6)).unwrap());
        let request = Request {
            sent,
            uri: uri.to_owned(),
            purpose,
            hangs_up,
            place: None,
        };
        self.submit(request);
    }

    fn submit(&self, request: Request) {
        let world = self.world.clone();
        self.world.executor.spawn(OUTSIDE, None, async move {
            let _ = world.request(request).await;
        });
    }

    fn forge(&mut self, sent: SignedDelivery, uri: &str) {
        self.send(sent, uri, Purpose::Forged);
    }

    /// The body of an event of our own making.
    fn body(&mut self) -> String {
        let resource = format!("batches/{}", self.rng.below(400));
        let now = self.now();
        body(&mut self.rng, &resource, Some(now), Value::Null)
    }

    /// A URI with a token of ours, if one has leaked.
    fn leaked(&mut self) -> Option<(String, String)> {
        let leaked = self.world.loot().leaked.clone();
        if leaked.is_empty() {
            return None;
        }
        let (token, context) = self.rng.pick(&leaked);
        Some((JobTokens::callback_uri("/webhook", token), context.clone()))
    }

    /// A URI with which a forgery comes far.
    fn best_uri(&mut self) -> String {
        match self.leaked() {
            Some((uri, _)) if self.rng.chance(60) => uri,
            _ => "/webhook".into(),
        }
    }

    fn captured(&mut self, wanted: impl Fn(&Captured) -> bool) -> Option<Captured> {
        let loot = self.world.loot();
        let captured = loot.captured.iter();
        let all: Vec<&Captured> = captured.filter(|it| wanted(it)).collect();
        (!all.is_empty()).then(|| (*self.rng.pick(&all)).clone())
    }

    /// Waits for one that the window still admits.
    async fn fresh(&mut self, wanted: impl Fn(&Captured) -> bool) -> Option<Captured> {
        for _ in 0..120 {
            let now = self.now();
            let fresh = self.captured(|it| wanted(it) && it.at + Duration::from_secs(120) > now);
            if fresh.is_some() {
                return fresh;
            }
            self.world.executor.sleep(Duration::from_secs(30)).await;
        }
        None
    }

    fn forge_v1(&mut self) {
        let (id, now, body) = (self.id(), wall(self.now()), self.body());
        let signer = Signer::v1(&secret(&mut self.rng));
        let mut sent = signer.sign(id, now, body);
        if self.rng.chance(30) {
            sent.signature
                .truncate(self.rng.index(sent.signature.len()).max(3));
        }
        let uri = self.best_uri();
        self.forge(sent, &uri);
    }

    /// With keys of its own, under Google's ids and others.
    fn forge_per_request(&mut self) {
        let (id, now, body, uri) = (self.id(), self.now(), self.body(), self.best_uri());
        let theirs = self.world.google().keys.ed25519_id(0);
        let own = self.keys.ed25519_id(0);
        let sent = match self.rng.below(3) {
            0 => Signer::v1a(&self.keys).sign(id, wall(now), body),
            1 => sign_eddsa(&self.keys, &theirs, &id, now, &body),
            _ => sign_eddsa(&self.keys, &own, &id, now, &body),
        };
        self.forge(sent, &uri);
    }

    /// `none`, and algorithms that do not fit the key.
    fn forge_token_without_key(&mut self) {
        let (id, now, body, uri) = (self.id(), self.now(), self.body(), self.best_uri());
        let key_id = self.world.google().keys.ed25519_id(0);
        let mut sent = sign_eddsa(&self.keys, &key_id, &id, now, &body);
        let algorithm = *self.rng.pick(&["none", "HS256", "RS256", "ES256"]);
        let claims: Value = serde_json::from_str(&body).unwrap();
        let token = self
            .keys
            .jwt(&json!({"alg": algorithm, "kid": key_id}), &claims);
        sent.signature = match self.rng.below(2) {
            0 => token,
            _ => token.rsplit_once('.').unwrap().0.to_owned() + ".",
        };
        self.forge(sent, &uri);
    }

    /// Changes one thing of a genuine attempt.
    async fn tamper(&mut self) {
        let Some(mut captured) = self.fresh(|_| true).await else {
            return self.forge_v1();
        };
        let sent = &mut captured.sent;
        let is_token = matches!(captured.genuine.signing, Signing::Rs256 | Signing::EdDsa);
        match self.rng.below(3) {
            // A token covers neither.
            0 if !is_token => sent.id.push('0'),
            1 if !is_token => {
                sent.timestamp = (wall(captured.at).unix_timestamp() + 1).to_string();
            }
            _ => {
                let text = String::from_utf8(sent.body.clone()).unwrap();
                sent.body = text.replace("batches/", "batches/1").into_bytes();
            }
        }
        self.forge(captured.sent, &captured.genuine.uri);
    }

    /// The signature of one attempt beside the content of another.
    async fn mix(&mut self) {
        let Some(one) = self.captured(|_| true) else {
            return self.forge_v1();
        };
        let number = one.genuine.number;
        let Some(other) = self.fresh(|it| it.genuine.number != number).await else {
            return;
        };
        let mut sent = other.sent;
        sent.signature = match self.rng.below(3) {
            0 => one.sent.signature,
            1 => format!("{} {}", one.sent.signature, one.sent.signature),
            _ => one.sent.signature.replace("v1a,", "v1,"),
        };
        self.forge(sent, &other.genuine.uri);
    }

    /// The same once more: soon, or long after.
    async fn replay(&mut self) {
        let recent = self.rng.chance(70);
        let captured = if recent {
            self.fresh(|_| true).await
        } else {
            self.captured(|_| true)
        };
        let Some(captured) = captured else {
            return self.forge_v1();
        };
        if self.rng.chance(40) {
            // At the same moment, so that they share a commit.
            for _ in 0..self.rng.below(20) {
                self.send_copy(&captured);
            }
        }
        for _ in 0..self.rng.below(4) {
            self.send_copy(&captured);
            let wait = self.rng.time(1, 200_000);
            self.world.executor.sleep(wait).await;
        }
        self.send_copy(&captured);
    }

    fn send_copy(&mut self, captured: &Captured) {
        let mut sent = captured.sent.clone();
        if matches!(captured.genuine.signing, Signing::Rs256 | Signing::EdDsa)
            && self.rng.chance(60)
        {
            sent.id = self.id();
            sent.timestamp = wall(self.now()).unix_timestamp().to_string();
        }
        let limit = match captured.genuine.signing {
            Signing::V1 | Signing::V1a => TOO_OLD,
            Signing::Rs256 | Signing::EdDsa => TOO_OLD + LEEWAY,
        };
        let too_old = self.now() > captured.at + limit;
        let purpose = if too_old {
            Purpose::Forged
        } else {
            Purpose::Copy
        };
        let uri = captured.genuine.uri.clone();
        self.send(sent, &uri, purpose);
    }

    /// The last retry of a delivery that was handled a day ago, as late as the window admits.
    async fn replay_at_the_edge(&mut self) {
        let Some(deaf) = self.captured(|it| it.genuine.deaf) else {
            return self.forge_v1();
        };
        let number = deaf.genuine.number;
        let last = deaf.genuine.created + crate::google::DAY;
        let wait = self.rng.time(60_000, 330_000);
        self.world.executor.sleep_until(last + wait).await;
        let late = self
            .world
            .loot()
            .captured
            .iter()
            .rev()
            .find(|it| it.genuine.number == number)
            .cloned();
        self.send_copy(&late.unwrap());
    }

    /// A genuine attempt with the token of another job: it must not hide the genuine one.
    async fn replay_as_another_job(&mut self) {
        let captured = self.fresh(|it| it.genuine.signing != Signing::V1).await;
        let (Some(captured), Some((uri, context))) = (captured, self.leaked()) else {
            return self.forge_v1();
        };
        if context == captured.genuine.context {
            return;
        }
        if !captured.genuine.uri.contains('?') {
            // The signed token speaks against the one in the URI.
            return self.forge(captured.sent, &uri);
        }
        let resource = format!("batches/{}", captured.genuine.number);
        self.world.oracle().allow(resource, context);
        self.send(captured.sent, &uri, Purpose::Copy);
    }

    /// Signed by Google, for a job of the adversary's own.
    fn foreign(&mut self, metadata: Value) -> (SignedDelivery, String) {
        let (id, now) = (self.id(), self.now());
        let resource = format!("batches/foreign-{}-{}", self.number, self.rng.below(1_000));
        let body = body(&mut self.rng, &resource, Some(now), metadata);
        let signing = *self
            .rng
            .pick(&[Signing::V1a, Signing::EdDsa, Signing::V1a, Signing::EdDsa]);
        (self.world.google().sign(signing, &id, now, &body), resource)
    }

    fn foreign_without_token(&mut self) {
        let (sent, _) = self.foreign(Value::Null);
        self.forge(sent, "/webhook");
    }

    fn foreign_with_bad_token(&mut self) {
        let own = JobTokens::new(self.rng.bytes());
        let token = own.mint_for("nightly").unwrap();
        let in_event = self.rng.chance(50);
        let metadata = if in_event {
            JobTokens::user_metadata(&token).into()
        } else {
            Value::Null
        };
        let (sent, _) = self.foreign(metadata);
        let uri = match self.leaked() {
            // Changed by one character, cut, or two of them.
            Some((uri, _)) if !in_event => match self.rng.below(4) {
                3 => {
                    // Two that are valid, of different jobs.
                    let leaked = self.world.loot().leaked.clone();
                    let second = leaked
                        .iter()
                        .find(|(token, _)| !uri.contains(token.as_str()));
                    JobTokens::callback_uri(&uri, &second.unwrap().0)
                }
                0 => uri[..uri.len() - 1].to_owned() + if uri.ends_with('A') { "B" } else { "A" },
                1 => uri[..uri.len() - 4].to_owned(),
                _ => JobTokens::callback_uri(&uri, &token),
            },
            _ if in_event => "/webhook".into(),
            _ => JobTokens::callback_uri("/webhook", &token),
        };
        self.forge(sent, &uri);
    }

    /// This is accepted, under the context of the token.
    fn foreign_with_leaked_token(&mut self) {
        let Some((uri, context)) = self.leaked() else {
            return self.foreign_without_token();
        };
        let (mut sent, resource) = self.foreign(Value::Null);
        // At the time of the job's own event, so as to hide it.
        let own = self.captured(|it| it.genuine.context == context && it.genuine.uri.contains('?'));
        if let Some(own) = own {
            let (number, now) = (own.genuine.number, self.now());
            let theirs = format!("\"batches/{number}\"");
            let body = own
                .genuine
                .body
                .replace(&theirs, &format!("\"{resource}\""));
            sent = self.world.google().sign(Signing::V1a, &sent.id, now, &body);
        }
        self.world.oracle().allow(resource, context);
        self.send(sent, &uri, Purpose::Leaked);
    }

    /// A token or a secret whose time is over.
    fn use_what_is_outdated(&mut self) {
        let (token, secret) = {
            let loot = self.world.loot();
            (loot.short_lived.clone(), loot.old_secret.clone())
        };
        let over = Duration::from_secs(26 * 3_600);
        match (token, secret) {
            (Some(token), _) if self.now() > over => {
                let (sent, _) = self.foreign(Value::Null);
                let uri = JobTokens::callback_uri("/webhook", &token);
                self.send(sent, &uri, Purpose::Outdated);
            }
            (_, Some(secret)) => {
                let (id, now, body) = (self.id(), wall(self.now()), self.body());
                self.forge(Signer::v1(&secret).sign(id, now, body), "/webhook");
            }
            _ => self.forge_v1(),
        }
    }

    /// Many at once that all want newer keys.
    fn flood(&mut self) {
        // Now and then more than may wait for keys, all at one process.
        let (many, place) = match self.rng.below(6) {
            0 => (300, Some(0)),
            _ => (10 + self.rng.below(20), None),
        };
        for _ in 0..many {
            let mut request = self.unknown_key_with_any_token();
            request.place = place;
            self.submit(request);
        }
    }

    /// Costs nothing to make, and wants newer keys.
    fn unknown_key(&mut self, uri: &str) -> Request {
        let (now, body) = (wall(self.now()), self.body());
        let id = self.id();
        let sent = if self.rng.chance(10) {
            Signer::v1a(&self.keys).sign(id, now, body)
        } else {
            let mut cheap = Signer::v1(&secret(&mut self.rng)).sign(id, now, body);
            cheap.signature = format!("v1a,{}==", "A".repeat(86));
            cheap
        };
        Request {
            sent,
            uri: uri.to_owned(),
            purpose: Purpose::Forged,
            hangs_up: None,
            place: None,
        }
    }

    fn unknown_key_with_any_token(&mut self) -> Request {
        let uri = self.leaked().map_or("/webhook".into(), |(uri, _)| uri);
        self.unknown_key(&uri)
    }

    /// Hangs up for some minutes, at the pace of the cool-down and faster.
    async fn hang_up_again_and_again(&mut self) {
        let pace = *self.rng.pick(&[1_000, 5_000, 29_900, 30_100]);
        let times = 20 + self.rng.below(20);
        for _ in 0..times {
            let mut request = self.unknown_key_with_any_token();
            request.hangs_up = Some(u32::try_from(self.rng.below(2)).unwrap());
            self.submit(request);
            self.world.executor.sleep(Duration::from_millis(pace)).await;
        }
    }

    /// Headers and bodies that nobody would send.
    fn stay_away_from_sense(&mut self) {
        let (id, now, body, uri) = (self.id(), wall(self.now()), self.body(), self.best_uri());
        let mut sent = Signer::v1a(&self.keys).sign(id, now, body);
        match self.rng.below(6) {
            0 => sent.id = "x".repeat(300),
            1 => sent.timestamp = format!("0{}", sent.timestamp),
            2 => sent.signature = vec![sent.signature.as_str(); 40].join(" "),
            3 => sent.body = vec![b'['; 300_000],
            4 => sent.timestamp = "9223372036854775807".into(),
            _ => sent.signature = "v1a,".into(),
        }
        self.forge(sent, &uri);
    }

    /// Signs as an impersonated key server does: only the tokens stand between the adversary and us.
    async fn forge_as_the_key_server(&mut self) {
        let evil = self.world.key_server().evil.clone();
        for _ in 0..3 {
            let (id, now, body) = (self.id(), self.now(), self.body());
            let sent = sign_eddsa(&evil, &evil.ed25519_id(0), &id, now, &body);
            self.forge(sent, "/webhook");
            self.world.executor.sleep(Duration::from_secs(40)).await;
        }
        // With a leaked token it would be accepted, but not long after the real keys are back.
        let sound = {
            let server = self.world.key_server();
            server.mode == Mode::Sound
                && self.now() > server.sound_since + Duration::from_secs(2 * 3_600)
        };
        if let (true, Some((uri, _))) = (sound, self.leaked()) {
            let (id, now, body) = (self.id(), self.now(), self.body());
            let sent = sign_eddsa(&evil, &evil.ed25519_id(0), &id, now, &body);
            self.forge(sent, &uri);
        }
    }

    /// A genuine attempt without its proof of origin, or with a second signature.
    async fn strip(&mut self) {
        let stripped =
            |it: &Captured| it.genuine.uri.contains('?') && it.genuine.signing != Signing::V1;
        let Some(captured) = self.fresh(stripped).await else {
            return self.foreign_without_token();
        };
        let mut sent = captured.sent;
        if self.rng.chance(30) {
            let token = self.keys.jwt(&json!({"alg": "EdDSA"}), &json!({}));
            sent.signature = format!("v1,{}= {token}", "A".repeat(43));
        }
        self.forge(sent, "/webhook");
    }
}
