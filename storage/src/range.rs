/// Which raw keys to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first key, inclusive.
    pub start: Vec<u8>,
    /// Where to stop, exclusive.
    pub end: Vec<u8>,
    /// The most rows to return.
    pub limit: usize,
    /// From the end backwards.
    pub reverse: bool,
    /// Without a read conflict: later changes to these keys don't refuse the transaction.
    pub snapshot: bool,
}

impl Range {
    /// Reads from `start` up to but not including `end`.
    #[must_use]
    pub fn new(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { start: start.into(), end: end.into(), limit: usize::MAX, reverse: false, snapshot: false }
    }

    /// Reads every key that starts with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self::new(prefix, crate::key::after_prefix(prefix))
    }

    /// Returns at most `limit` rows.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Reads backwards.
    #[must_use]
    pub fn reverse(mut self, reverse: bool) -> Self {
        self.reverse = reverse;
        self
    }

    /// Reads without a conflict.
    #[must_use]
    pub fn snapshot(mut self, snapshot: bool) -> Self {
        self.snapshot = snapshot;
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start >= self.end || self.limit == 0
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && key < self.end.as_slice()
    }
}
