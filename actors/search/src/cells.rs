//! How many events of a segment are of each sort: what statistics are made of, without a look at the events.

use std::collections::{BTreeMap, HashMap};

use aesp_audit::{Stored, tool};
use aesp_proto::v1::AuditEvent;

use crate::varint::{Malformed, Reader, put, put_bytes};

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Events, and how many occurrences they stand for (refusals before authentication are counted together).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events in the log.
    pub events: u64,
    /// What they stand for.
    pub occurrences: u64,
}

impl Tally {
    /// Adds to both.
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.occurrences += other.occurrences;
    }
}

/// A sort of events, with texts and ids by their place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sort {
    /// Hours since 1970.
    pub(crate) hour: i64,
    pub(crate) kind: i32,
    pub(crate) outcome: i32,
    pub(crate) action: u32,
    pub(crate) principal: u32,
    pub(crate) on_behalf_of: u32,
    pub(crate) tool: u32,
}

/// The sorts of a segment's events, each with its count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cells {
    /// The texts and ids; the first is empty.
    pub(crate) names: Vec<Vec<u8>>,
    pub(crate) counts: Vec<(Sort, Tally)>,
}

/// Counts the events of a segment: once by hour, type, outcome and action alone, once by principals and tool as well.
#[derive(Default)]
pub(crate) struct Counter {
    coarse: Counts,
    fine: Counts,
}

#[derive(Default)]
struct Counts {
    names: HashMap<Vec<u8>, u32>,
    counts: BTreeMap<Sort, Tally>,
}

impl Counter {
    pub(crate) fn add(&mut self, stored: &Stored, event: &AuditEvent) {
        let leaf = &stored.leaf;
        let tally = Tally { events: 1, occurrences: leaf.count.max(1) };
        let none: &[u8] = &[];
        self.coarse.add(stored, [none, none, none], tally);
        let tool = tool(&event.resource).unwrap_or_default().as_bytes();
        self.fine.add(stored, [&leaf.principal_id, &leaf.on_behalf_of, tool], tally);
    }

    /// Returns the coarse counts and the fine ones, packed.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<u8>) {
        (self.coarse.pack(), self.fine.pack())
    }
}

impl Counts {
    fn add(&mut self, stored: &Stored, [principal, on_behalf_of, tool]: [&[u8]; 3], tally: Tally) {
        let sort = Sort {
            hour: stored.leaf.timestamp_ms.div_euclid(HOUR_MS),
            kind: stored.leaf.event_type,
            outcome: stored.leaf.outcome,
            action: self.name(stored.leaf.action.as_bytes()),
            principal: self.name(principal),
            on_behalf_of: self.name(on_behalf_of),
            tool: self.name(tool),
        };
        self.counts.entry(sort).or_default().add(tally);
    }

    fn name(&mut self, name: &[u8]) -> u32 {
        if name.is_empty() {
            return 0;
        }
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        let next = u32::try_from(self.names.len() + 1).expect("a segment has few events");
        self.names.insert(name.to_vec(), next);
        next
    }

    fn pack(self) -> Vec<u8> {
        let mut names: Vec<_> = self.names.into_iter().collect();
        names.sort_by_key(|(_, index)| *index);
        let mut out = Vec::new();
        put(&mut out, names.len() as u128);
        names.iter().for_each(|(name, _)| put_bytes(&mut out, name));
        let mut before = 0;
        for (sort, tally) in self.counts {
            put(&mut out, zigzag(sort.hour - before));
            before = sort.hour;
            put(&mut out, zigzag(sort.kind.into()));
            put(&mut out, zigzag(sort.outcome.into()));
            [sort.action, sort.principal, sort.on_behalf_of, sort.tool]
                .into_iter()
                .for_each(|index| put(&mut out, index.into()));
            put(&mut out, tally.events.into());
            put(&mut out, tally.occurrences.into());
        }
        out
    }
}

impl Cells {
    /// Takes apart what [`Counter::finish`] packed.
    pub(crate) fn unpack(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        let more: usize = input.number()?;
        let mut cells = Self { names: vec![Vec::new()], counts: Vec::new() };
        for _ in 0..more {
            cells.names.push(input.bytes()?.to_vec());
        }
        let mut hour = 0_i64;
        while !input.is_empty() {
            hour = hour.checked_add(unzigzag(&mut input)?).ok_or(Malformed)?;
            let (kind, outcome) = (unzigzag(&mut input)?, unzigzag(&mut input)?);
            let sort = Sort {
                hour,
                kind: kind.try_into().map_err(|_| Malformed)?,
                outcome: outcome.try_into().map_err(|_| Malformed)?,
                action: cells.index(&mut input)?,
                principal: cells.index(&mut input)?,
                on_behalf_of: cells.index(&mut input)?,
                tool: cells.index(&mut input)?,
            };
            let tally = Tally { events: input.number()?, occurrences: input.number()? };
            cells.counts.push((sort, tally));
        }
        Ok(cells)
    }

    fn index(&self, input: &mut Reader<'_>) -> Result<u32, Malformed> {
        let index: u32 = input.number()?;
        if (index as usize) < self.names.len() { Ok(index) } else { Err(Malformed) }
    }

    /// Returns the name at an index of a [`Sort`] of these.
    pub(crate) fn name(&self, index: u32) -> &[u8] {
        &self.names[index as usize]
    }
}

fn zigzag(number: i64) -> u128 {
    u128::from(((number << 1) ^ (number >> 63)).cast_unsigned())
}

fn unzigzag(input: &mut Reader<'_>) -> Result<i64, Malformed> {
    let packed: u64 = input.number()?;
    Ok((packed >> 1).cast_signed() ^ -(packed & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use aesp_proto::v1::AuditLeaf;
    use proptest::prelude::*;

    use super::*;

    fn stored(hour: i64, action: &str, count: u64, principal: Vec<u8>) -> Stored {
        let leaf = AuditLeaf {
            timestamp_ms: hour * HOUR_MS + 5,
            event_type: 3,
            outcome: 1,
            action: action.into(),
            count,
            principal_id: principal,
            ..AuditLeaf::default()
        };
        Stored { position: [0; 16], leaf }
    }

    #[test]
    fn events_are_counted_with_what_they_stand_for() {
        let mut counter = Counter::default();
        let event = AuditEvent { resource: "tool:echo@1.0.0".into(), ..AuditEvent::default() };
        for (hour, action, count, principal) in [(-2, "a", 0, 1), (-2, "a", 40, 2), (500_000, "b", 1, 1)] {
            counter.add(&stored(hour, action, count, vec![principal; 16]), &event);
        }
        let (coarse, fine) = counter.finish();
        let (coarse, fine) = (Cells::unpack(&coarse).unwrap(), Cells::unpack(&fine).unwrap());
        let shown = |cells: &Cells| -> Vec<(i64, String, u64, u64)> {
            let text = |index| String::from_utf8(cells.name(index).to_vec()).unwrap();
            cells.counts.iter().map(|(s, t)| (s.hour, text(s.action), t.events, t.occurrences)).collect()
        };
        assert_eq!(shown(&coarse), [(-2, "a".into(), 2, 41), (500_000, "b".into(), 1, 1)]);
        assert_eq!(fine.counts.len(), 3);
        assert!(fine.counts.iter().all(|(sort, _)| fine.name(sort.tool) == b"echo"));
        assert_eq!((coarse.name(0), coarse.counts[0].0.principal), (&[][..], 0));
    }

    proptest! {
        #[test]
        fn signed_numbers_come_back(number: i64) {
            let mut out = Vec::new();
            put(&mut out, zigzag(number));
            prop_assert_eq!(unzigzag(&mut Reader(&out)), Ok(number));
        }

        #[test]
        fn what_strangers_packed_is_refused_or_in_bounds(bytes: Vec<u8>) {
            if let Ok(cells) = Cells::unpack(&bytes) {
                prop_assert!(cells.counts.iter().all(|(sort, _)| (sort.tool as usize) < cells.names.len()));
            }
        }
    }
}
