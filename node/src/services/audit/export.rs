//! Exports in the forms that other programs read: part by part, each with its signed line of the manifest.

use std::sync::Arc;

use aesp_audit::{Asked, ManifestSigner, Part, Query, TimeRange};
use aesp_audit_formats::Format;
use aesp_call::Granted;
use aesp_proto::{
    Error, Timestamp,
    v1::{AuditFormat, ExportAuditLogsRequest, ExportAuditLogsResponse},
};
use data_encoding::{BASE64, HEXLOWER};
use futures::{Stream, StreamExt, stream};
use prost::Message;
use tonic::Status;

use super::{Parts, filter};
use crate::services::Context;

/// Events of a part.
const PART_EVENTS: usize = 1_000;
/// Bytes of one message; a part may take several.
const MESSAGE_BYTES: usize = 1_000_000;

/// Returns the form that is asked for; nothing for JSON Lines with proofs.
pub(super) fn format(asked: &ExportAuditLogsRequest) -> Result<Option<Format>, Error> {
    let format = match AuditFormat::try_from(asked.format) {
        Err(_) => return Err(Error::invalid("there is no such format")),
        Ok(AuditFormat::JsonLines) => None,
        Ok(AuditFormat::Csv) => Some(Format::Csv),
        Ok(AuditFormat::Ocsf) => Some(Format::Ocsf),
        Ok(AuditFormat::Cef) => Some(Format::Cef),
        Ok(AuditFormat::Syslog) => Some(Format::Syslog),
    };
    if format.is_none() && (asked.filter.is_some() || !asked.cursor.is_empty()) {
        let text =
            "JSON Lines prove that they are all events: a filter and a cursor are for the other formats";
        return Err(Error::invalid(text));
    }
    Ok(format)
}

/// Returns the time range that is asked for; nothing for the whole log.
pub(super) fn range(asked: &ExportAuditLogsRequest) -> Result<Option<TimeRange>, Error> {
    if asked.start_ms < 0 || asked.end_ms < 0 || (asked.end_ms != 0 && asked.end_ms <= asked.start_ms) {
        return Err(Error::invalid("end_ms must be behind start_ms, and neither below 0"));
    }
    let end = (asked.end_ms != 0).then_some(Timestamp(asked.end_ms));
    let range = TimeRange { start: Timestamp(asked.start_ms), end };
    Ok((asked.start_ms != 0 || asked.end_ms != 0).then_some(range))
}

/// How far an export is.
struct Exporting {
    context: Context,
    granted: Granted,
    signer: Arc<ManifestSigner>,
    format: Format,
    asked: Asked,
    query: Query,
    offset: u64,
    events: u64,
    /// What is read and not sent yet.
    unsent: Vec<ExportAuditLogsResponse>,
    done: bool,
}

/// Begins an export under a grant that is on record.
pub(super) async fn export(
    context: &Context,
    granted: Granted,
    asked: &ExportAuditLogsRequest,
    format: Format,
) -> Result<Parts, Error> {
    let (cursor, offset, events) = read_cursor(&asked.cursor)?;
    let query = Query {
        filter: filter::filter(asked.filter.as_ref())?,
        limit: PART_EVENTS,
        cursor,
        ..Query::new(granted.tenant())
    };
    let query = filter::in_time(query, asked.start_ms, asked.end_ms);
    query.after()?;
    let exporting = Exporting {
        context: context.clone(),
        signer: Arc::new(ManifestSigner::load(&context.store).await?),
        format,
        asked: Asked {
            tenant: granted.tenant(),
            format: format.name().to_owned(),
            start_ms: asked.start_ms,
            end_ms: asked.end_ms,
            filter: BASE64.encode(&asked.filter.clone().unwrap_or_default().encode_to_vec()),
        },
        granted,
        query,
        offset,
        events,
        unsent: Vec::new(),
        done: false,
    };
    Ok(parts(exporting).boxed())
}

fn parts(exporting: Exporting) -> impl Stream<Item = Result<ExportAuditLogsResponse, Status>> + Send {
    stream::unfold(exporting, |mut exporting| async move {
        if exporting.unsent.is_empty() && exporting.done {
            return None;
        }
        let part = exporting.next().await;
        if part.is_err() {
            exporting.unsent.clear();
            exporting.done = true;
        }
        Some((part.map_err(Status::from), exporting))
    })
}

impl Exporting {
    async fn next(&mut self) -> Result<ExportAuditLogsResponse, Error> {
        if self.unsent.is_empty() {
            self.read().await?;
            self.unsent.reverse();
        }
        // INVARIANT R1: an export ends with the right to it.
        self.context.access.still(&self.granted).await?;
        self.unsent.pop().ok_or_else(|| Error::internal(std::io::Error::other("a part has no message")))
    }

    /// Reads the next part.
    async fn read(&mut self) -> Result<(), Error> {
        let place = |query: &Query| Ok::<_, Error>(query.after()?.map(|place| HEXLOWER.encode(&place)));
        let after = place(&self.query)?;
        let found = self.context.index.search(&self.query).await?;
        self.query.cursor = found.page.next_cursor;
        let upto = place(&self.query)?;
        let mut bytes = Vec::new();
        if self.offset == 0 {
            self.format.head(&mut bytes);
        }
        found.page.events.iter().for_each(|event| self.format.line(&mut bytes, event));
        let mut part = Part::new(self.asked.clone(), &bytes);
        part.after = after.unwrap_or_default();
        part.upto = upto.unwrap_or_default();
        part.offset = self.offset;
        part.events_before = self.events;
        part.events = found.page.events.len() as u64;
        part.exported_at_ms = self.context.clock.now();
        let line = self.signer.line(&part)?;
        self.offset += part.bytes;
        self.events += part.events;
        self.done = self.query.cursor.is_empty();
        let mut messages: Vec<_> = bytes
            .chunks(MESSAGE_BYTES)
            .map(|data| ExportAuditLogsResponse { data: data.to_vec(), ..Default::default() })
            .collect();
        if messages.is_empty() {
            messages.push(ExportAuditLogsResponse::default());
        }
        if let Some(last) = messages.last_mut() {
            last.manifest_line = line;
            last.cursor = self.cursor();
        }
        self.unsent = messages;
        Ok(())
    }

    /// Says where to go on: the query's cursor, and what is before it in the file.
    fn cursor(&self) -> String {
        if self.done {
            String::new()
        } else {
            format!("{}.{}.{}", self.query.cursor, self.offset, self.events)
        }
    }
}

fn read_cursor(text: &str) -> Result<(String, u64, u64), Error> {
    if text.is_empty() {
        return Ok((String::new(), 0, 0));
    }
    let malformed = || Error::invalid("the cursor does not belong to this export");
    let mut parts = text.splitn(3, '.');
    let mut next = || parts.next().ok_or_else(malformed);
    let (cursor, offset, events) = (next()?, next()?, next()?);
    let number = |text: &str| text.parse().map_err(|_| malformed());
    if cursor.is_empty() {
        return Err(malformed());
    }
    Ok((cursor.to_owned(), number(offset)?, number(events)?))
}

#[cfg(test)]
mod tests {
    use aesp_proto::v1::AuditFilter;

    use super::*;

    #[test]
    fn proofs_are_of_a_time_range_that_is_one() {
        let asked = |start_ms, end_ms| ExportAuditLogsRequest { start_ms, end_ms, ..Default::default() };
        assert_eq!(range(&asked(0, 0)).unwrap(), None);
        let from = TimeRange { start: Timestamp(5), end: None };
        assert_eq!(range(&asked(5, 0)).unwrap(), Some(from));
        assert_eq!(range(&asked(5, 9)).unwrap(), Some(TimeRange { end: Some(Timestamp(9)), ..from }));
        for (start_ms, end_ms) in [(5, 5), (9, 5), (-1, 0), (0, -1)] {
            assert!(range(&asked(start_ms, end_ms)).is_err(), "{start_ms} {end_ms}");
        }
    }

    #[test]
    fn proofs_are_of_all_events_only() {
        let whole = ExportAuditLogsRequest::default();
        assert_eq!(format(&whole).unwrap(), None);
        let filtered = ExportAuditLogsRequest { filter: Some(AuditFilter::default()), ..whole.clone() };
        assert!(format(&filtered).is_err());
        let csv = ExportAuditLogsRequest { format: AuditFormat::Csv.into(), ..filtered };
        assert_eq!(format(&csv).unwrap(), Some(Format::Csv));
        assert!(format(&ExportAuditLogsRequest { format: 77, ..whole }).is_err());
    }

    #[test]
    fn cursors_are_whole_or_refused() {
        assert_eq!(read_cursor("").unwrap(), (String::new(), 0, 0));
        assert_eq!(read_cursor("abc.17.3").unwrap(), ("abc".into(), 17, 3));
        for bad in ["abc", "abc.1", ".1.2", "abc.x.1", "abc.1.2.3"] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
