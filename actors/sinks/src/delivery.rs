use std::{ops::Range, sync::Arc};

use aesp_outbound::{Cause, Failure};

use crate::parcel::{Entry, Parcel, Refusal, What};

/// What a sink said of the parcels that it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// How many, from the first on, are settled: taken, or refused for good.
    pub(crate) settled: usize,
    /// Which of the settled were refused, by their place among those sent, ascending, and why.
    pub(crate) refused: Vec<(usize, String)>,
    /// Why the others are not settled.
    pub(crate) rest: Option<Failure>,
}

impl Receipt {
    /// All of so many were taken.
    pub(crate) fn all(count: usize) -> Self {
        Self { settled: count, ..Self::default() }
    }
}

/// Refused events in a row beyond which it is rather the sink that is wrong than the events: from there on one is passed over a pause.
pub(crate) const REFUSED_IN_A_ROW: u32 = 20;

/// One batch on its way: what is settled, and what is to be sent next. When a sink refuses the content of several parcels without
/// saying which, halves are sent, until the one is found.
#[derive(Debug)]
pub(crate) struct Delivery {
    entries: Vec<Entry>,
    parcels: Vec<Arc<Parcel>>,
    /// Parcels before are settled.
    next: usize,
    /// How many are sent at once.
    size: usize,
    refused: Vec<Refusal>,
}

/// What an answer means for the sink.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on: with the next parcels, if there are any.
    Well,
    /// Pause for this reason before what is left is sent.
    Trouble(Failure),
}

impl Delivery {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let sent = |entry: &Entry| match &entry.what {
            What::Send(parcel) => Some(Arc::clone(parcel)),
            What::Skip | What::Unsendable(..) => None,
        };
        let parcels: Vec<_> = entries.iter().filter_map(sent).collect();
        let unsendable = |entry: &Entry| match &entry.what {
            What::Unsendable(event, why) => Some(Refusal {
                tenant: entry.tenant,
                position: entry.position,
                event: *event,
                why: why.clone(),
                about_sinks: false,
            }),
            What::Skip | What::Send(_) => None,
        };
        let refused = entries.iter().filter_map(unsendable).collect();
        let size = parcels.len();
        Self { entries, parcels, next: 0, size, refused }
    }

    /// Returns what is to be sent now; nothing when all is settled.
    pub(crate) fn parcels(&self) -> &[Arc<Parcel>] {
        &self.parcels[self.sending()]
    }

    fn sending(&self) -> Range<usize> {
        self.next..self.parcels.len().min(self.next + self.size)
    }

    /// Tells whether nothing is left to be sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.next == self.parcels.len()
    }

    /// Tells whether something was settled that was not taken out yet.
    pub(crate) fn has_settled(&self) -> bool {
        self.next > 0
    }

    /// Takes the answer in. `in_a_row` counts refused events since the last that was taken.
    pub(crate) fn answered(&mut self, answer: Result<Receipt, Failure>, in_a_row: &mut u32) -> Verdict {
        let sent = self.sending();
        match answer {
            Ok(receipt) => self.received(receipt, sent, in_a_row),
            Err(failure) if failure.cause == Cause::Content && sent.len() > 1 => {
                self.size = sent.len() / 2;
                Verdict::Well
            }
            Err(failure) if failure.cause == Cause::Content => {
                let refused = vec![(0, failure.why)];
                self.received(Receipt { settled: 1, refused, rest: None }, sent, in_a_row)
            }
            Err(failure) => Verdict::Trouble(failure),
        }
    }

    fn received(&mut self, receipt: Receipt, sent: Range<usize>, in_a_row: &mut u32) -> Verdict {
        let mut refused = receipt.refused.into_iter().peekable();
        for at in 0..receipt.settled.min(sent.len()) {
            let parcel = &self.parcels[sent.start + at];
            self.next += 1;
            let Some((_, why)) = refused.next_if(|(place, _)| *place == at) else {
                *in_a_row = 0;
                continue;
            };
            *in_a_row += 1;
            self.refused.push(Refusal {
                tenant: parcel.tenant,
                position: parcel.position,
                event: parcel.event,
                why: why.clone(),
                about_sinks: parcel.about_sinks,
            });
            if *in_a_row > REFUSED_IN_A_ROW {
                let why = format!("refused {in_a_row} events in a row, the last with: {why}");
                return Verdict::Trouble(Failure::new(Cause::Content, why));
            }
        }
        // Back to whole batches, step by step.
        self.size = self.size.saturating_mul(2).max(1);
        match receipt.rest {
            Some(failure) if !self.is_settled() => Verdict::Trouble(failure),
            _ => Verdict::Well,
        }
    }

    /// Takes out what is settled: the entries in their order, with the refusals among them.
    pub(crate) fn take_settled(&mut self) -> (Vec<Entry>, Vec<Refusal>) {
        let unsettled = self.parcels.get(self.next).cloned();
        let end = unsettled.map_or(self.entries.len(), |parcel| {
            let is_it = |entry: &Entry| matches!(&entry.what, What::Send(sent) if Arc::ptr_eq(sent, &parcel));
            self.entries.iter().position(is_it).unwrap_or(self.entries.len())
        });
        let rest = self.entries.split_off(end);
        let settled = std::mem::replace(&mut self.entries, rest);
        self.parcels.drain(..self.next);
        self.next = 0;
        let (now, later) = std::mem::take(&mut self.refused).into_iter().partition(|refusal: &Refusal| {
            settled.iter().any(|entry| entry.tenant == refusal.tenant && entry.position == refusal.position)
        });
        self.refused = later;
        (settled, now)
    }

    /// Forgets entries of tenants whose home is elsewhere now. Nothing of it is being sent, and what was settled was taken out.
    pub(crate) fn forget(&mut self, gone: impl Fn(&Entry) -> bool) {
        let mut rest = std::mem::take(&mut self.entries);
        rest.retain(|entry| !gone(entry));
        *self = Self::new(rest);
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
