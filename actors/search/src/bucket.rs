//! Which events of a segment have which term. A segment's terms are spread over [`BUCKETS`] rows by the first byte of their
//! blind, so that a search reads of each segment only what may have its terms, and those lie side by side.

use std::collections::BTreeMap;

use aesp_storage::{Kind, TenantKeys};

use crate::{
    ordinals::{self, Ordinals},
    varint::{Malformed, Reader},
};

/// How many rows a segment's terms are spread over.
pub(crate) const BUCKETS: usize = 256;
const HASH_BYTES: usize = 7;

/// A term, known by the first 8 bytes of its HMAC under the tenant's index key. Two terms with the same would only cost reading:
/// every hit is compared with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Term([u8; 8]);

impl Term {
    pub(crate) fn new(keys: &TenantKeys, text: &str) -> Self {
        let blind = keys.blind(Kind::SEARCH_TERMS, text);
        let mut hash = [0; 8];
        hash.copy_from_slice(&blind.0[..8]);
        Self(hash)
    }

    /// Returns the row that it stands in.
    pub(crate) fn bucket(self) -> u8 {
        self.0[0]
    }

    fn rest(&self) -> &[u8] {
        &self.0[1..]
    }
}

/// Packs the terms of one segment into its rows; also those without any, so that one that is gone is missed.
pub(crate) fn pack(terms: BTreeMap<Term, Vec<u16>>) -> Vec<Vec<u8>> {
    let mut rows = vec![Vec::new(); BUCKETS];
    for (term, events) in terms {
        let row = &mut rows[usize::from(term.bucket())];
        row.extend_from_slice(term.rest());
        ordinals::pack(row, &events);
    }
    rows
}

/// Adds the events with one of the terms to `found`; the terms are those of this row.
pub(crate) fn look_up(row: &[u8], terms: &[Term], found: &mut Ordinals) -> Result<(), Malformed> {
    let mut reader = Reader(row);
    while !reader.is_empty() {
        let hash = reader.take(HASH_BYTES)?;
        let wanted = terms.iter().any(|term| term.rest() == hash);
        ordinals::unpack(&mut reader, wanted.then_some(&mut *found))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_found_in_their_rows() {
        let term = |first: u8, last: u8| Term([first, 0, 0, 0, 0, 0, 0, last]);
        let terms = BTreeMap::from([
            (term(0, 1), vec![0, 1, 2, 4_095]),
            (term(0, 2), vec![7]),
            (term(255, 1), vec![8]),
        ]);
        let rows = pack(terms);
        assert_eq!(rows.len(), BUCKETS);
        let look = |bucket: usize, terms: &[Term]| {
            let mut found = Ordinals::NONE;
            look_up(&rows[bucket], terms, &mut found).unwrap();
            found.iter().collect::<Vec<_>>()
        };
        assert_eq!(look(0, &[term(0, 1)]), [0, 1, 2, 4_095]);
        assert_eq!(look(0, &[term(0, 2), term(0, 1)]), [0, 1, 2, 7, 4_095]);
        assert_eq!(look(0, &[term(0, 3)]), [0_usize; 0]);
        assert_eq!((look(255, &[term(255, 1)]), look(1, &[term(1, 1)])), (vec![8], vec![]));
        let mut found = Ordinals::NONE;
        assert_eq!(look_up(&rows[0][..5], &[term(0, 1)], &mut found), Err(Malformed));
    }
}
