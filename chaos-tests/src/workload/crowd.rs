//! A tenant that always wants more than it may: more calls in flight, more calls a second, more sessions.

mod opener;

use std::{sync::Arc, time::Duration};

use aesp_proto::{Entropy, Error};
use aesp_sdk::{
    Client, Credentials, ErrorCode,
    v1::{CreateSessionRequest, FunctionCall, InvokeRequest, Quotas, UpdateTenantQuotasRequest},
};
use aesp_tests::{Account, Tenant, platform};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::opener::{Door, Opener};
use super::{CALLER, SESSION_SECONDS, persist::persist};
use crate::{
    access::Access,
    crowding::{Attempt, Limits, Stay},
    history::{CallKey, Recorder},
    steady, visits,
};

/// What the tenant may have: less than its clients want.
pub(crate) const LIMITS: Limits = Limits { sessions: 6, calls_in_flight: 4, calls_per_second: 12 };

/// Sessions that stay, one after the other at each node.
const SESSIONS: usize = 3;
const CALLERS: usize = 3;
/// For the places in the quota of sessions that are left.
const OPENERS: usize = 4;
/// In turns, calls are so long that places are rare, and so short that only their rate is.
const TURN_MS: u64 = 3_000;
const LONG_MS: (u64, u64) = (100, 900);
const SHORT_MS: (u64, u64) = (0, 20);
/// How long the Host has for a call, and the client for its answer.
const CALL_LIMIT_MS: u32 = 2_500;
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between two calls, or after a refusal.
const PAUSE_MS: (u64, u64) = (0, 20);
const REFUSED_MS: (u64, u64) = (100, 300);

/// The tenant of the crowd.
#[derive(Clone)]
pub(crate) struct Crowded {
    pub(crate) tenant: Tenant,
    account: Account,
}

impl Crowded {
    /// Makes it, with the tool that holds calls, and an account that may call that.
    pub(super) async fn prepare(administrator: &Client, name: &str) -> anyhow::Result<Self> {
        let tenant = platform::create_tenant(administrator, name).await?;
        let Limits { sessions, calls_in_flight, calls_per_second } = LIMITS;
        let quotas = Quotas { sessions, calls_in_flight, calls_per_second, ..platform::generous() };
        let request = UpdateTenantQuotasRequest { tenant_id: tenant.id().to_owned(), quotas: Some(quotas) };
        let updated = administrator.tenants().update_tenant_quotas(request).await;
        updated.map_err(|status| Error::from_status(&status))?;
        tenant.offer(visits::contract()).await?;
        tenant.role(CALLER, &["*"]).await?;
        let account = tenant.account("crowd", &[CALLER]).await?;
        Ok(Self { tenant, account })
    }
}

/// Those who call and open sessions there.
pub(super) struct Crowd {
    pub(super) access: Access,
    pub(super) crowded: Crowded,
    pub(super) random: Entropy,
    pub(super) recorder: Recorder,
    pub(super) stop: CancellationToken,
}

impl Crowd {
    pub(super) async fn run(self) {
        // One for each node, and for no other: it is told which node was called when that is killed.
        let credentials = Credentials::ApiKey(self.crowded.account.api_key.as_str().into());
        let to = |endpoint: &aesp_sdk::Endpoint| {
            let access = Access { endpoints: vec![endpoint.clone()], ..self.access.clone() };
            access.client(credentials.clone(), 0)
        };
        let clients: anyhow::Result<Arc<[Client]>> = self.access.endpoints.iter().map(to).collect();
        let Ok(clients) = clients else { return };
        let door = Arc::new(Door::default());
        let mut tasks = JoinSet::new();
        for n in 0..SESSIONS {
            let client = &clients[n % clients.len()];
            let session = persist(&self.stop, async || {
                let request = CreateSessionRequest { ttl_seconds: SESSION_SECONDS, ..Default::default() };
                Ok(client.agent().create_session(request).await?.into_inner().session_id)
            });
            let Some(Ok(session)) = session.await else { continue };
            door.knows(&session);
            let session: Arc<str> = session.into();
            let stay = Stay { session: Arc::clone(&session), made_us: steady::now_us(), closed_us: u64::MAX };
            self.recorder.stay(stay);
            for caller in 0..CALLERS {
                let caller = Caller {
                    clients: Arc::clone(&clients),
                    session: Arc::clone(&session),
                    name: format!("h{caller}"),
                    random: self.random.clone(),
                    recorder: self.recorder.clone(),
                    stop: self.stop.clone(),
                };
                tasks.spawn(caller.run(n));
            }
        }
        for n in 0..OPENERS {
            let opener = Opener {
                clients: Arc::clone(&clients),
                door: Arc::clone(&door),
                random: self.random.clone(),
                recorder: self.recorder.clone(),
                stop: self.stop.clone(),
            };
            tasks.spawn(opener.run(n));
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// A client that sends each call once: what is refused is not asked for again.
struct Caller {
    clients: Arc<[Client]>,
    session: Arc<str>,
    name: String,
    random: Entropy,
    recorder: Recorder,
    stop: CancellationToken,
}

impl Caller {
    async fn run(self, first: usize) {
        let mut node = first % self.clients.len();
        let mut number = 0_u64;
        while !self.stop.is_cancelled() {
            number += 1;
            let key =
                CallKey { session: Arc::clone(&self.session), invocation: format!("{}-{number}", self.name) };
            let long = (self.recorder.now_ms() / TURN_MS).is_multiple_of(2);
            let hold_ms = between(&self.random, if long { LONG_MS } else { SHORT_MS });
            let asked_us = steady::now_us();
            let heard = call(&self.clients[node], &key, hold_ms).await;
            let ended_us = steady::now_us();
            let pause = if heard.is_ok() { PAUSE_MS } else { REFUSED_MS };
            let lost = heard.as_ref().is_err_and(|error| is_lost(error.code()));
            self.recorder.attempt(Attempt { key, node, asked_us, ended_us, dispatch: heard.ok() });
            node = (node + usize::from(lost)) % self.clients.len();
            rest(&self.stop, between(&self.random, pause)).await;
        }
    }
}

/// Makes one attempt; returns the dispatch that answered.
async fn call(client: &Client, key: &CallKey, hold_ms: u64) -> Result<String, Error> {
    let args = json!({ "hold_ms": hold_ms }).to_string();
    let call = FunctionCall { name: visits::HOLD.into(), args_json: args.into(), ..Default::default() };
    let request = InvokeRequest {
        session_id: key.session.to_string(),
        invocation_id: key.invocation.clone(),
        call: Some(call),
        timeout_ms: CALL_LIMIT_MS,
        ..InvokeRequest::default()
    };
    let answer = match timeout(ATTEMPT, client.agent().invoke(request)).await {
        Ok(answer) => answer.map_err(|status| Error::from_status(&status))?.into_inner(),
        Err(_) => return Err(Error::new(ErrorCode::DeadlineExceeded, "the node does not answer")),
    };
    let content = answer.result.unwrap_or_default().content_json;
    let dispatch = serde_json::from_slice::<Value>(&content).ok();
    let dispatch = dispatch.and_then(|content| content["dispatch"].as_str().map(str::to_owned));
    dispatch.ok_or_else(|| Error::new(ErrorCode::ToolFailed, "the tool failed"))
}

/// Tells whether the node should be left for another.
fn is_lost(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DeadlineExceeded | ErrorCode::TransportError | ErrorCode::ServiceUnavailable)
}

fn between(random: &Entropy, (least, most): (u64, u64)) -> u64 {
    least + random.below(most - least + 1)
}

async fn rest(stop: &CancellationToken, milliseconds: u64) {
    tokio::select! {
        () = sleep(Duration::from_millis(milliseconds)) => {}
        () = stop.cancelled() => {}
    }
}
