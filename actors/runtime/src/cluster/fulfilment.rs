//! What the Runtimes of one node fulfil, as its peers need to know it. No I/O, clock or randomness.

use std::{collections::HashMap, sync::Arc};

use aesp_proto::{
    InvalidId, SessionId, TenantId,
    v1::{ContractDraft, Fulfilment, FulfilmentChange, FulfilmentTable},
};
use prost::Message as _;

use crate::offers::Offer;

/// The most rows that a node announces, and that it believes of another.
pub(crate) const MAX_ROWS: usize = 65_536;
/// The most bytes of rows in one message.
const MESSAGE_BYTES: usize = 256 << 10;

/// What the Runtimes that fulfil one contract come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) runtimes: u32,
    pub(crate) streaming: u32,
    pub(crate) leaving: u32,
    pub(crate) credits: u32,
    pub(crate) load: u32,
    /// The contract, if the Runtimes registered it themselves.
    pub(crate) draft: Option<Arc<ContractDraft>>,
}

/// Everything that a node's Runtimes fulfil.
pub(crate) type Rows = HashMap<Offer, Figures>;

impl Figures {
    /// Tells whether peers should hear of it: whatever decides where a call can go, and a load that has clearly changed.
    fn is_news_after(&self, announced: &Self) -> bool {
        let fixed = |figures: &Self| (figures.runtimes, figures.streaming, figures.leaving, figures.credits);
        let free = |figures: &Self| figures.load < figures.credits;
        fixed(self) != fixed(announced)
            || free(self) != free(announced)
            || self.load.abs_diff(announced.load) > (announced.load / 4).max(2)
            || self.draft != announced.draft
    }
}

/// What a node has told of its table: every peer that missed nothing knows exactly this.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    version: u64,
    rows: Rows,
}

impl Announced {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Takes over the current table, and returns what is to be told of it, in order.
    pub(crate) fn advance(&mut self, current: Rows) -> Vec<FulfilmentChange> {
        let mut news: Vec<_> = current
            .iter()
            .filter(|(offer, figures)| {
                self.rows.get(*offer).is_none_or(|announced| figures.is_news_after(announced))
            })
            .map(|(offer, figures)| (offer.clone(), figures.clone()))
            .collect();
        let gone = self.rows.keys().filter(|offer| !current.contains_key(*offer));
        news.extend(gone.map(|offer| (offer.clone(), Figures::default())));
        let mut changes = Vec::new();
        for rows in split(news.iter().map(|(offer, figures)| to_wire(offer, figures))) {
            self.version += 1;
            changes.push(FulfilmentChange { version: self.version, rows });
        }
        for (offer, figures) in news {
            if figures.runtimes == 0 {
                self.rows.remove(&offer);
            } else {
                self.rows.insert(offer, figures);
            }
        }
        changes
    }

    /// Returns the whole table as it was told last.
    pub(crate) fn table(&self) -> Vec<FulfilmentTable> {
        let mut parts = split(self.rows.iter().map(|(offer, figures)| to_wire(offer, figures)));
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let last = parts.len() - 1;
        let number = |n: usize| u32::try_from(n).expect("far fewer parts than rows");
        let part =
            |(n, rows)| FulfilmentTable { version: self.version, part: number(n), last: n == last, rows };
        parts.into_iter().enumerate().map(part).collect()
    }
}

/// Splits rows into messages of a size that a link takes.
fn split(rows: impl Iterator<Item = Fulfilment>) -> Vec<Vec<Fulfilment>> {
    let (mut parts, mut bytes) = (Vec::new(), MESSAGE_BYTES);
    for row in rows {
        let size = row.encoded_len() + 8;
        if bytes + size > MESSAGE_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(row);
        }
    }
    parts
}

fn to_wire(offer: &Offer, figures: &Figures) -> Fulfilment {
    Fulfilment {
        tenant_id: offer.tenant.as_bytes().to_vec(),
        name: offer.name.as_ref().to_owned(),
        version: offer.version.as_ref().to_owned(),
        session_id: offer.session.map(|session| session.as_bytes().to_vec()).unwrap_or_default(),
        development: offer.development,
        runtimes: figures.runtimes,
        streaming: figures.streaming,
        leaving: figures.leaving,
        credits: figures.credits,
        load: figures.load,
        draft: figures.draft.as_ref().map(|draft| draft.as_ref().clone()),
    }
}

/// Reads a row.
///
/// # Errors
/// If one of its ids is none.
pub(crate) fn from_wire(row: Fulfilment) -> Result<(Offer, Figures), InvalidId> {
    let session = match row.session_id.as_slice() {
        [] => None,
        bytes => Some(SessionId::from_slice(bytes)?),
    };
    let offer = Offer {
        tenant: TenantId::from_slice(&row.tenant_id)?,
        name: row.name.into(),
        version: row.version.into(),
        session,
        development: row.development,
    };
    let figures = Figures {
        runtimes: row.runtimes,
        streaming: row.streaming,
        leaving: row.leaving,
        credits: row.credits,
        load: row.load,
        draft: row.draft.map(Arc::new),
    };
    Ok((offer, figures))
}
