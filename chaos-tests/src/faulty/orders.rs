use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// What a node is told to do wrong. Everything else is in order; without a file, everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Orders {
    /// Tells these orders from the same ones given before, and decides what is random.
    pub(crate) seed: u64,
    pub(crate) store: StoreFault,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crash: Option<Crash>,
}

/// What the store does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreFault {
    /// What a store should.
    #[default]
    None,
    /// Refuses everything.
    Unavailable,
    /// Answers nothing until it is told otherwise; what waits goes on then.
    Stalled,
    /// Takes so long for each read and each commit.
    Slow { read_ms: u64, commit_ms: u64 },
    /// Can't say whether commits landed: one in so many. Half of them did; of those that did not, some arrive late.
    Unknown { one_in: u64, late_percent: u64 },
}

/// Which actors panic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Crash {
    /// Their kind, as supervision names it.
    pub(crate) actor: String,
    /// One in so many messages makes its actor panic.
    pub(crate) one_in: u64,
    /// How often, until there are other orders.
    pub(crate) times: u64,
}

impl Orders {
    /// Writes them for a node to find, whole or not at all.
    ///
    /// # Errors
    /// When they can't be written.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let draft = file.with_extension("draft");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(draft, file)
    }

    /// Reads them; without a file there are none.
    ///
    /// # Errors
    /// When the file can't be read or says something else.
    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        match fs::read(file) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_back_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.json");
        assert_eq!(Orders::read(&file).unwrap(), Orders::default());
        let orders = Orders {
            seed: 7,
            store: StoreFault::Slow { read_ms: 1, commit_ms: 2 },
            crash: Some(Crash { actor: "tenant".into(), one_in: 1, times: 9 }),
        };
        orders.write(&file).unwrap();
        assert_eq!(Orders::read(&file).unwrap(), orders);
        fs::write(&file, r#"{"seed":1,"store":"gone"}"#).unwrap();
        assert!(Orders::read(&file).is_err());
    }
}
