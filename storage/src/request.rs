use std::time::Duration;

use aesp_proto::{Entropy, RequestId, TenantId, Timestamp};
use bytes::Bytes;

use crate::{
    Commit, Error, Kind, Mutation, Observed, Range, Store,
    key::{after_prefix, row_key},
};

/// Names a transaction, so that one whose commit ended unknown can be looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// When the transaction began, in milliseconds. It comes first in the key: names of one time lie together, so that a
    /// group of commits writes few pages and old names are removed as a range.
    began: u64,
    id: RequestId,
}

const COMMITTED: Bytes = Bytes::from_static(&[1]);
const REFUSED: Bytes = Bytes::from_static(&[2]);

impl Request {
    pub(crate) fn new(now: Timestamp, entropy: &Entropy) -> Self {
        Self { began: millis(now), id: RequestId::random(entropy) }
    }

    fn key(&self) -> Vec<u8> {
        row_key(
            TenantId::PLATFORM,
            Kind::REQUEST,
            &[&self.began.to_be_bytes()[..], self.id.as_bytes()].concat(),
        )
    }

    /// Lets the transaction read and write its own name, as its resolver will: so one of the two loses.
    pub(crate) fn add_to(&self, observed: &mut Vec<Observed>, mutations: &mut Vec<Mutation>) {
        observed.push(Observed::Point { key: self.key(), value: None });
        mutations.push(Mutation::Set { key: self.key(), value: COMMITTED });
    }
}

fn millis(now: Timestamp) -> u64 {
    u64::try_from(now.0).unwrap_or(0)
}

impl Store {
    /// Finds out whether the transaction was committed; if it wasn't, it never will be.
    pub(crate) async fn resolve(&self, request: &Request) -> Result<bool, Error> {
        let key = request.key();
        let snapshot = self.shared.engine.snapshot().await?;
        if let Some(value) = snapshot.get(&key).await? {
            return Ok(value == COMMITTED);
        }
        let commit = Commit {
            snapshot: Some(snapshot),
            observed: vec![Observed::Point { key: key.clone(), value: None }],
            mutations: vec![Mutation::Set { key, value: REFUSED }],
            use_reserve: true,
        };
        // A conflict means that the transaction landed just now; the next look will find it.
        self.shared.engine.commit(commit).await.map(|_| false)
    }

    /// Removes the names of transactions older than `age`, which nobody will look up any more: ten minutes are plenty,
    /// since the runner gives up after ten seconds. Every transaction that writes leaves one, so call it every minute.
    ///
    /// # Errors
    /// That of [`run`](Self::run).
    pub async fn expire_requests(&self, age: Duration) -> Result<(), Error> {
        let now = self.shared.clock.now();
        let oldest =
            millis(Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))));
        let start = row_key(TenantId::PLATFORM, Kind::REQUEST, &[]);
        let end = row_key(TenantId::PLATFORM, Kind::REQUEST, &oldest.to_be_bytes());
        debug_assert!(end < after_prefix(&start));
        loop {
            // In pieces, so that no transaction grows beyond its limits.
            let (start, end) = (&start, &end);
            let last = self
                .run_borrowing(|tx| {
                    let range =
                        Range::new(start.as_slice(), end.as_slice()).limit(EXPIRED_AT_ONCE).snapshot(true);
                    Box::pin(async move {
                        let rows = tx.range_raw(range).await?;
                        for (key, _) in &rows {
                            tx.clear_raw(key)?;
                        }
                        Ok::<_, Error>(rows.len())
                    })
                })
                .await?;
            if last < EXPIRED_AT_ONCE {
                return Ok(());
            }
        }
    }
}

const EXPIRED_AT_ONCE: usize = 10_000;
