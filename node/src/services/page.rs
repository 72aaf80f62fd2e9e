use std::str::FromStr;

use aesp_proto::{Error, v1::Page};

/// Returns how many a page may have: 100 if nothing is said, at most 1,000.
pub(crate) fn limit(page: &Page) -> usize {
    if page.limit == 0 { 100 } else { page.limit.min(1_000) as usize }
}

/// Reads the cursor of a page; empty starts.
pub(crate) fn cursor<T: FromStr>(page: &Page) -> Result<Option<T>, Error> {
    optional(&page.cursor)
}

/// Reads a field that may be empty.
pub(crate) fn optional<T: FromStr>(text: &str) -> Result<Option<T>, Error> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// Reads an id, number or cursor.
pub(crate) fn parse<T: FromStr>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::invalid("an id, number or cursor of the request is malformed"))
}
