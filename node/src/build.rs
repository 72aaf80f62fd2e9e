use std::{fmt, sync::Arc};

use aesp_storage::Store;
use aesp_supervision::BeforeMessage;

/// How a build of the node differs from the one that is shipped. The binary `aesp` is [`Build::shipped`]; a test build, whose
/// `main` is another crate's, hands in what breaks. Nothing that a process reads turns one into the other.
#[derive(Clone)]
pub struct Build {
    pub(crate) test: Option<TestBuild>,
}

/// What a test build puts between the node and its parts.
#[derive(Clone)]
pub struct TestBuild {
    /// What it says of itself when it is asked for its version, and in its log.
    pub version: &'static str,
    /// Wraps the store that was opened. Called once a node, within its runtime.
    pub store: Arc<dyn Fn(Store) -> Store + Send + Sync>,
    /// Hears of each message before an actor handles it, and may panic as the actor could.
    pub before_message: BeforeMessage,
}

impl Build {
    /// Returns the build that is shipped: nothing differs.
    #[must_use]
    pub fn shipped() -> Self {
        Self { test: None }
    }

    /// Returns a test build. It says that it is one whenever it is asked for its version, and in its log.
    #[must_use]
    pub fn test(test: TestBuild) -> Self {
        Self { test: Some(test) }
    }

    pub(crate) fn version(&self) -> &'static str {
        self.test.as_ref().map_or(env!("CARGO_PKG_VERSION"), |test| test.version)
    }

    pub(crate) fn store(&self, opened: Store) -> Store {
        match &self.test {
            Some(test) => (test.store)(opened),
            None => opened,
        }
    }

    pub(crate) fn supervision(&self, metrics: aesp_supervision::Metrics) -> aesp_supervision::Metrics {
        match &self.test {
            Some(test) => metrics.before_each_message(Arc::clone(&test.before_message)),
            None => metrics,
        }
    }

    /// Says loudly in the log that this is no node for production, if so.
    pub(crate) fn announce(&self) {
        if let Some(test) = &self.test {
            tracing::error!(
                version = test.version,
                "THIS IS A TEST BUILD that breaks on purpose; never serve with it"
            );
        }
    }
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Build").field(&self.version()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_test_build_says_more_than_its_version() {
        assert_eq!(Build::shipped().version(), env!("CARGO_PKG_VERSION"));
        let test = Build::test(TestBuild {
            version: "0.1.0 (TEST BUILD)",
            store: Arc::new(|store| store),
            before_message: Arc::new(|_| {}),
        });
        assert_eq!(test.version(), "0.1.0 (TEST BUILD)");
    }
}
