use std::io::{self, Write};

use aesp_proto::{Error, chain};
use serde_json::json;
use tonic::{Code, Status};

use super::console::Format;

/// Exit codes of sysexits.h where they fit, 1 for a refusal.
const REFUSED: u8 = 1;
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const PERMISSION: u8 = 77;

/// Why a command failed: what happened, a code, what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: String,
    next: Option<String>,
    exit: u8,
}

impl Failure {
    /// The command was given something that can't be right.
    pub(crate) fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { message: message.into(), code: "USAGE".into(), next: Some(next.into()), exit: USAGE }
    }

    /// Something on this machine went wrong.
    pub(crate) fn local(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { message: message.into(), code: "FAILED".into(), next: Some(next.into()), exit: REFUSED }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit
    }

    /// Tells standard error, in the form that the output has.
    pub(crate) fn report(&self, format: Format) {
        let mut err = io::stderr().lock();
        let told = match format {
            Format::Json => {
                let error =
                    json!({ "error": { "message": self.message, "code": self.code, "next": self.next } });
                writeln!(err, "{error}")
            }
            Format::Table => {
                let next = self.next.as_deref().map(|next| format!("\nnext:  {next}")).unwrap_or_default();
                writeln!(err, "error: {}\ncode:  {}{next}", self.message, self.code)
            }
        };
        // With standard error gone there is nobody left to tell.
        drop(told);
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code().as_str_name().to_owned();
        let message = error.message().to_owned();
        let wait = error.retry_delay().map(|delay| format!("try again in {} ms", delay.as_millis()));
        let next = error.remediation().map(str::to_owned).or(wait);
        let (exit, usual) = match Status::from(error).code() {
            Code::Unauthenticated => {
                (PERMISSION, Some("log in: aesp login, or give --token or AESP_API_KEY"))
            }
            Code::PermissionDenied => (PERMISSION, Some("ask an administrator for a role that allows it")),
            Code::Unavailable => {
                (UNAVAILABLE, Some("check --endpoint and that the node is up: aesp config show"))
            }
            _ if code == "CONFIGURATION_ERROR" => (USAGE, None),
            _ => (REFUSED, None),
        };
        Self { message, code, next: next.or_else(|| usual.map(str::to_owned)), exit }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Error::from_status(&status).into()
    }
}

impl From<crate::config::Error> for Failure {
    fn from(error: crate::config::Error) -> Self {
        let next = "correct it, then: aesp config check".to_owned();
        Self { message: chain(&error), code: "CONFIGURATION_ERROR".into(), next: Some(next), exit: USAGE }
    }
}

impl From<crate::tls::Error> for Failure {
    fn from(error: crate::tls::Error) -> Self {
        let next =
            "correct the [tls] section or the file; aesp init makes a development authority".to_owned();
        Self { message: chain(&error), code: "CONFIGURATION_ERROR".into(), next: Some(next), exit: USAGE }
    }
}

impl From<crate::cluster::Error> for Failure {
    fn from(error: crate::cluster::Error) -> Self {
        let next = "correct the [cluster] section or the file; aesp config default explains both".to_owned();
        Self { message: chain(&error), code: "CONFIGURATION_ERROR".into(), next: Some(next), exit: USAGE }
    }
}

impl From<crate::backup::Error> for Failure {
    fn from(error: crate::backup::Error) -> Self {
        use crate::backup::Error as Backup;
        let next = match &error {
            Backup::Store(store) | Backup::Archive(aesp_backup::Error::Store(store)) => {
                Some(store_remedy(store))
            }
            other => other.next().map(str::to_owned),
        };
        let code = error.code();
        let exit = match code {
            aesp_proto::ErrorCode::ConfigurationError => USAGE,
            aesp_proto::ErrorCode::ServiceUnavailable => UNAVAILABLE,
            _ => REFUSED,
        };
        Self { message: chain(&error), code: code.as_str_name().into(), next, exit }
    }
}

impl From<aesp_backup::logical::Error> for Failure {
    fn from(error: aesp_backup::logical::Error) -> Self {
        use aesp_backup::logical::Error as Export;
        let next = match &error {
            Export::Store(store) => store_remedy(store),
            Export::NewerFormat { .. } => "use the release that wrote it, or a newer one".into(),
            Export::OtherKey { .. } => {
                "configure that key, or export again with --for-key of this store's".into()
            }
            Export::NotEmpty => "name another store in store.path; a half import is removed first".into(),
            Export::OneTenant(tenant) => format!("stop the nodes, and name it: --tenant {tenant}"),
            Export::WholeStore => "leave --tenant out, and name an empty store in store.path".into(),
            Export::TenantExists(_) => {
                "a tenant's id stays given, also of one that was deleted: import into another cluster".into()
            }
            Export::Adopt(error) if error.code() == aesp_proto::ErrorCode::StateConflict => {
                "give it another name: --rename".into()
            }
            Export::Rebirth(aesp_backup::rebirth::Error::Serving) => {
                "stop all nodes of this store first".into()
            }
            Export::Rebirth(aesp_backup::rebirth::Error::Arriving { tenant }) => {
                format!("aesp store import --tenant {tenant} -f the same file")
            }
            Export::Changed => "stop the nodes, or export a store that aesp restore made".into(),
            Export::Rebirth(_) => "remove the store and import again".into(),
            _ => "copy the file again, or export again".into(),
        };
        let exit =
            if matches!(error.code(), aesp_proto::ErrorCode::ConfigurationError) { USAGE } else { REFUSED };
        Self { message: chain(&error), code: error.code().as_str_name().into(), next: Some(next), exit }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { message: error.to_string(), code: "FAILED".into(), next: None, exit: REFUSED }
    }
}

/// What an operator does about a store that can't be used.
fn store_remedy(error: &aesp_storage::Error) -> String {
    use aesp_storage::Error as Store;
    match error {
        Store::Damaged { remedy, .. } => remedy.clone(),
        Store::WrongMasterKey => {
            "name in [keys] the master key that the store was created with: its provider, place and name".into()
        }
        Store::KeyProvider(text) if text.starts_with("master key file") => {
            "name in keys.master_key_file the file that aesp init made, mode 0600".into()
        }
        Store::KeyProvider(_) => "correct the [keys] section or what the message names; docs/keys.md explains both".into(),
        Store::KeyProviderAway(_) => {
            "see that the key manager runs, is unsealed and can be reached from here, then start the node again".into()
        }
        Store::KeyProviderDenied(_) => {
            "give the node a login that is valid and may use the key; docs/keys.md has the rights it needs".into()
        }
        Store::MasterKeyGone(_) => {
            "bring that version of the master key back in the key manager (in transit: lower min_decryption_version); \
             without it the store can't be read"
                .into()
        }
        Store::Full => "make room on the store's disk, or raise store.map_size_gib".into(),
        // The text of what can't be reached ends with what to do.
        Store::Unavailable(reason) if reason.contains("FoundationDB") => {
            "do what the message says; docs/foundationdb.md explains each setting of store.fdb".into()
        }
        _ => "check store.path, and that nothing else holds the store: aesp config show".into(),
    }
}

/// What an operator does about a cluster that does not take a node.
fn join_remedy(error: &aesp_cluster::JoinError) -> String {
    use aesp_cluster::JoinError as Join;
    match error {
        Join::Store(error) => store_remedy(error),
        Join::ClockSkewed { .. } => "synchronise the clock, then start the node again".into(),
        _ => "see who uses the store: aesp cluster status; correct node.name, [cluster] or store.path".into(),
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        if let Some(store) = error.downcast_ref::<aesp_storage::Error>() {
            let next = Some(store_remedy(store));
            return Self {
                message: format!("{error:#}"),
                code: "STORE_UNUSABLE".into(),
                next,
                exit: REFUSED,
            };
        }
        if let Some(join) = error.downcast_ref::<aesp_cluster::JoinError>() {
            let code = join.code().as_str_name().to_owned();
            return Self {
                message: format!("{error:#}"),
                code,
                next: Some(join_remedy(join)),
                exit: REFUSED,
            };
        }
        let error = match error.downcast::<crate::tls::Error>() {
            Ok(tls) => return tls.into(),
            Err(other) => other,
        };
        let error = match error.downcast::<crate::cluster::Error>() {
            Ok(cluster) => return cluster.into(),
            Err(other) => other,
        };
        match error.downcast::<Error>() {
            Ok(refusal) => refusal.into(),
            Err(other) => {
                Self { message: format!("{other:#}"), code: "FAILED".into(), next: None, exit: REFUSED }
            }
        }
    }
}
