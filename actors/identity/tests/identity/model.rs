//! Random histories of one principal's credentials against a model that knows what must work.

use std::{collections::BTreeSet, time::Duration};

use aesp_identity::{AccessToken, ApiKey, Error, Principal, Refresh, RefreshToken, Tokens};
use aesp_proto::Timestamp;
use proptest::prelude::*;

use crate::world::{World, granted, lifetime};

#[derive(Clone, Debug)]
enum Step {
    /// With the key of this number, modulo.
    Login(usize),
    /// With the refresh token of this number, modulo: current ones, old ones, any.
    Refresh(usize),
    RevokeAccess(usize),
    RevokeFamily(usize),
    RevokeAll,
    RotateKey,
    Wait(u64),
    Sweep,
    RevokePrincipal,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<usize>().prop_map(Step::Login),
        8 => any::<usize>().prop_map(Step::Refresh),
        2 => any::<usize>().prop_map(Step::RevokeAccess),
        2 => any::<usize>().prop_map(Step::RevokeFamily),
        1 => Just(Step::RevokeAll),
        1 => Just(Step::RotateKey),
        4 => (1_u64..800).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => Just(Step::RevokePrincipal),
    ]
}

/// What the model knows of a refresh token and the access token that came with it.
struct Held {
    refresh: RefreshToken,
    access: AccessToken,
    family: usize,
    generation: u64,
    expires_at: Timestamp,
}

struct Family {
    current: usize,
    alive: bool,
    ends_at: Timestamp,
}

struct Model {
    world: World,
    tokens: Tokens,
    principal: Principal,
    keys: Vec<ApiKey>,
    held: Vec<Held>,
    families: Vec<Family>,
    revoked_access: BTreeSet<usize>,
    generation: u64,
    active: bool,
}

impl Model {
    async fn new() -> Self {
        let world = World::new().await;
        let (principal, key) = world.account(world.acme, "agent").await.unwrap();
        let tokens = world.tokens().await;
        Self {
            world,
            tokens,
            principal,
            keys: vec![key],
            held: Vec::new(),
            families: Vec::new(),
            revoked_access: BTreeSet::new(),
            generation: 0,
            active: true,
        }
    }

    async fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        let pick = |number: usize, count: usize| (count > 0).then(|| number % count.max(1));
        match step {
            Step::Login(number) => {
                let index = number % self.keys.len();
                let good = self.active && index == self.keys.len() - 1;
                let outcome = self.world.login(&self.keys[index]).await;
                prop_assert_eq!(outcome.is_ok(), good, "login");
                if let Ok(grant) = outcome {
                    let ends_at = self.world.now().plus(lifetime().total);
                    self.families.push(Family { current: self.held.len(), alive: true, ends_at });
                    self.hold(grant.refresh_token, grant.principal, self.families.len() - 1);
                }
            }
            Step::Refresh(number) => {
                let Some(index) = pick(number, self.held.len()) else { return Ok(()) };
                self.refresh(index).await?;
            }
            Step::RevokeAccess(number) => {
                let Some(index) = pick(number, self.held.len()) else { return Ok(()) };
                self.world.revoke_access_token(&self.held[index].access.claims).await;
                self.revoked_access.insert(index);
            }
            Step::RevokeFamily(number) => {
                let Some(index) = pick(number, self.held.len()) else { return Ok(()) };
                // A family that was swept is over, and so unknown.
                if self.world.revoke_refresh_token(&self.held[index].refresh).await.is_ok() {
                    self.families[self.held[index].family].alive = false;
                } else {
                    prop_assert!(self.world.now() > self.last_expiry(self.held[index].family));
                }
            }
            Step::RevokeAll => {
                self.world.revoke_all(&self.principal).await.unwrap();
                self.generation += 1;
            }
            Step::RotateKey => match self.world.rotate_api_key(&self.principal).await {
                Ok((_, key)) => {
                    prop_assert!(self.active);
                    self.keys.push(key);
                    self.generation += 1;
                }
                Err(error) => prop_assert!(!self.active && matches!(error, Error::Revoked)),
            },
            Step::Wait(seconds) => self.world.clock.advance(Duration::from_secs(seconds)),
            Step::Sweep => self.world.sweep(self.world.acme).await,
            Step::RevokePrincipal => {
                self.world.revoke(self.world.acme, self.principal.id).await.unwrap();
                self.generation += u64::from(self.active);
                self.active = false;
            }
        }
        self.check_access_tokens().await
    }

    async fn refresh(&mut self, index: usize) -> Result<(), TestCaseError> {
        let now = self.world.now();
        let held = &self.held[index];
        let family = &self.families[held.family];
        let is_current = family.current == index;
        let in_time = now < held.expires_at && now < family.ends_at;
        let good = family.alive && is_current && in_time && self.active && held.generation == self.generation;
        match self.world.refresh(&held.refresh).await {
            Ok(Refresh::Granted(grant)) => {
                prop_assert!(good, "granted");
                let family = held.family;
                self.families[family].current = self.held.len();
                self.hold(grant.refresh_token, grant.principal, family);
            }
            Ok(Refresh::Reused(reuse)) => {
                prop_assert!(!is_current && family.alive, "reused");
                prop_assert_eq!(reuse.principal, self.principal.id);
                let family = held.family;
                self.families[family].alive = false;
            }
            Err(Error::Credentials(_)) => {
                // An old token of a living family that was not swept must be reported.
                let reported = family.alive && !is_current && now <= self.last_expiry(held.family);
                prop_assert!(!good && !reported, "refused");
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
        Ok(())
    }

    fn hold(&mut self, refresh: RefreshToken, principal: Principal, family: usize) {
        let now = self.world.now();
        let id = Some(refresh.id());
        let access = self.tokens.issue(&principal, id, &self.world.entropy, now).unwrap();
        let expires_at = now.plus(lifetime().idle);
        self.held.push(Held { refresh, access, family, generation: self.generation, expires_at });
    }

    fn last_expiry(&self, family: usize) -> Timestamp {
        self.held[self.families[family].current].expires_at
    }

    async fn check_access_tokens(&self) -> Result<(), TestCaseError> {
        let now = self.world.now();
        let snapshot = self.world.snapshot(self.world.acme).await;
        for (index, held) in self.held.iter().enumerate() {
            let in_time = now < held.access.claims.expires_at.plus(Duration::from_secs(5));
            let good = in_time
                && self.active
                && held.generation == self.generation
                && self.families[held.family].alive
                && !self.revoked_access.contains(&index);
            let verified = self.tokens.verify(held.access.reveal(), now);
            let accepted = verified.and_then(|claims| snapshot.check(&claims).map(|_| ()));
            prop_assert_eq!(accepted.is_ok(), good, "access token {}: {:?}", index, accepted);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn credentials_work_exactly_as_long_as_they_should(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in steps {
                model.apply(step).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

#[tokio::test]
async fn a_family_survives_a_hundred_refreshes() {
    let world = World::new().await;
    let (_, key) = world.account(world.acme, "agent").await.unwrap();
    let mut grant = world.login(&key).await.unwrap();
    for _ in 0..100 {
        grant = granted(world.refresh(&grant.refresh_token).await.unwrap());
    }
}
