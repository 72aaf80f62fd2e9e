use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use aesp_proto::{Entropy, Error};
use aesp_sdk::{
    Client, ErrorCode,
    v1::{CreateSessionRequest, DestroySessionRequest, ListSessionsRequest, Page, SessionStatus},
};
use tokio::{sync::RwLock, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{ATTEMPT, REFUSED_MS, between, rest};
use crate::{crowding::Stay, history::Recorder, steady, workload::SESSION_SECONDS};

const STAYS_MS: (u64, u64) = (200, 800);
/// After so many refusals in a row it is looked for sessions whose answers were lost.
const REFUSALS: u32 = 6;
const CLOSES: usize = 3;

/// The sessions that somebody has.
#[derive(Default)]
pub(super) struct Door {
    known: Mutex<HashSet<String>>,
    /// Held by those who make a session, each for itself; by who ends what nobody has, alone.
    making: RwLock<()>,
}

impl Door {
    pub(super) fn knows(&self, session: &str) {
        self.edit(|known| known.insert(session.to_owned()));
    }

    fn forgets(&self, session: &str) {
        self.edit(|known| known.remove(session));
    }

    fn edit(&self, edit: impl FnOnce(&mut HashSet<String>) -> bool) -> bool {
        edit(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A client that opens a session wherever it finds a place, and closes it soon.
pub(super) struct Opener {
    pub(super) clients: Arc<[Client]>,
    pub(super) door: Arc<Door>,
    pub(super) random: Entropy,
    pub(super) recorder: Recorder,
    pub(super) stop: CancellationToken,
}

impl Opener {
    pub(super) async fn run(self, first: usize) {
        let (mut at, mut refusals) = (first, 0);
        while !self.stop.is_cancelled() {
            at += 1;
            let client = &self.clients[at % self.clients.len()];
            let Some((session, made_us)) = self.open(client).await else {
                refusals += 1;
                if refusals % REFUSALS == 0 {
                    self.end_unknown(client).await;
                }
                rest(&self.stop, between(&self.random, REFUSED_MS)).await;
                continue;
            };
            refusals = 0;
            rest(&self.stop, between(&self.random, STAYS_MS)).await;
            let closed_us = steady::now_us();
            self.recorder.stay(Stay { session: session.as_str().into(), made_us, closed_us });
            self.door.forgets(&session);
            for n in 0..CLOSES {
                if close(&self.clients[(at + n) % self.clients.len()], &session).await {
                    break;
                }
            }
        }
    }

    /// Opens a session; returns it with when the answer came.
    async fn open(&self, client: &Client) -> Option<(String, u64)> {
        let _making = self.door.making.read().await;
        let request = CreateSessionRequest { ttl_seconds: SESSION_SECONDS, ..Default::default() };
        let made = timeout(ATTEMPT, client.agent().create_session(request)).await.ok()?.ok()?.into_inner();
        let made_us = steady::now_us();
        self.door.knows(&made.session_id);
        Some((made.session_id, made_us))
    }

    /// Ends the sessions whose makers never heard of them, and those that nobody could close: they would take up all places.
    async fn end_unknown(&self, client: &Client) {
        let _alone = self.door.making.write().await;
        let mut cursor = String::new();
        loop {
            let page = Some(Page { limit: 1_000, cursor });
            let request = ListSessionsRequest { page, ..ListSessionsRequest::default() };
            let Ok(Ok(answer)) = timeout(ATTEMPT, client.agent().list_sessions(request)).await else {
                return;
            };
            let answer = answer.into_inner();
            for session in answer.sessions {
                let lives = session.status() == SessionStatus::Active;
                if lives && !self.door.edit(|known| known.contains(&session.session_id)) {
                    close(client, &session.session_id).await;
                }
            }
            if answer.next_cursor.is_empty() {
                return;
            }
            cursor = answer.next_cursor;
        }
    }
}

/// Tells whether the session is over by this.
async fn close(client: &Client, session: &str) -> bool {
    let request = DestroySessionRequest { session_id: session.to_owned(), force: true };
    match timeout(ATTEMPT, client.agent().destroy_session(request)).await {
        Ok(Ok(_)) => true,
        Ok(Err(status)) => Error::from_status(&status).code() == ErrorCode::SessionInvalid,
        Err(_) => false,
    }
}
