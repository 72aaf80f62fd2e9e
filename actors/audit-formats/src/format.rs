use aesp_proto::v1::AuditEvent;

use crate::{cef, csv, ocsf, syslog};

/// A form in which other programs read events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// RFC 4180, with a line of names first.
    Csv,
    /// Open Cybersecurity Schema Framework, one JSON object a line.
    Ocsf,
    /// ArcSight Common Event Format.
    Cef,
    /// RFC 5424, one message a line.
    Syslog,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Csv, Self::Ocsf, Self::Cef, Self::Syslog];

    /// Returns the name: `csv`, `ocsf`, `cef`, `syslog`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
            Self::Syslog => "syslog",
        }
    }

    /// Appends what a file begins with.
    pub fn head(self, out: &mut Vec<u8>) {
        if self == Self::Csv {
            csv::head(out);
        }
    }

    /// Appends the line of an event, with its end.
    pub fn line(self, out: &mut Vec<u8>, event: &AuditEvent) {
        let line = match self {
            Self::Csv => return csv::event(out, event),
            Self::Ocsf => ocsf::event(event).to_string(),
            Self::Cef => cef::event(event),
            Self::Syslog => syslog::event(event, ""),
        };
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}
