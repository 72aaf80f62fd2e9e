use std::time::Duration;

use foundationdb::{
    Database,
    options::{DatabaseOption, TransactionOption},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{FdbOptions, cluster_file::ClusterFile, failure, network};
use crate::{Error, MAX_TRANSACTION_BYTES, TRANSACTION_TIME};

/// The most watches that a process keeps; two a tenant in use.
const WATCHES: i32 = 100_000;
/// The library itself never tries again: that is for the runner, which knows what it means.
const RETRIES: i32 = 0;

/// Checks what can be checked without the cluster, and makes a handle. Blocks for a moment.
///
/// # Errors
/// [`Error::Unavailable`], which says what to do.
pub(super) fn database(options: &FdbOptions, cluster: &ClusterFile) -> Result<Database, Error> {
    if cluster.speaks_tls() && options.tls.is_none() {
        return Err(Error::unavailable(format!(
            "the FoundationDB cluster {} speaks TLS; set store.fdb.certificate, store.fdb.key and store.fdb.ca",
            cluster.name
        )));
    }
    network::start(options)?;
    let path = options.cluster_file.to_str().ok_or_else(|| {
        Error::unavailable("the path of the FoundationDB cluster file is not UTF-8; move the file")
    })?;
    let database = Database::from_path(path).map_err(failure::of_read)?;
    let set = |option| database.set_option(option).map_err(failure::of_read);
    set(DatabaseOption::TransactionTimeout(millis(TRANSACTION_TIME)))?;
    set(DatabaseOption::TransactionRetryLimit(RETRIES))?;
    set(DatabaseOption::TransactionSizeLimit(i32::try_from(MAX_TRANSACTION_BYTES).unwrap_or(i32::MAX)))?;
    set(DatabaseOption::MaxWatches(WATCHES))?;
    if let Some(datacenter) = &options.datacenter {
        set(DatabaseOption::DatacenterId(datacenter.clone()))?;
    }
    Ok(database)
}

/// Waits for the cluster's first answer.
///
/// # Errors
/// [`Error::Unavailable`] if it did not come within `options.connect_timeout`, with what may be the reason.
pub(super) async fn first_answer(
    database: &Database,
    options: &FdbOptions,
    cluster: &ClusterFile,
) -> Result<(), Error> {
    let transaction = database.create_trx().map_err(failure::of_read)?;
    transaction
        .set_option(TransactionOption::Timeout(millis(options.connect_timeout)))
        .map_err(failure::of_read)?;
    let answer = timeout(options.connect_timeout, transaction.get_read_version()).await;
    if let Ok(Ok(_)) = answer {
        return Ok(());
    }
    let status = timeout(STATUS_TIME, database.get_client_status()).await;
    let status = status.ok().and_then(Result::ok);
    let status = status.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let why = status.as_ref().and_then(explain).unwrap_or_else(|| {
        let tls = if cluster.speaks_tls() { REFUSED_TLS } else { "" };
        format!(
            "the servers are down, the network does not reach them, {tls}the database was never configured, or the client \
             library is of another release than the servers"
        )
    });
    Err(Error::unavailable(format!(
        "the FoundationDB cluster {} (coordinators {}) did not answer within {} s: {why}; look at `fdbcli -C {} --exec status` \
         on this machine",
        cluster.name,
        cluster.coordinators.join(", "),
        options.connect_timeout.as_secs(),
        options.cluster_file.display(),
    )))
}

/// The library does not tell why a handshake failed.
const REFUSED_TLS: &str = "TLS is refused (store.fdb.certificate must be from an authority that the servers believe, theirs from \
                           store.fdb.ca, and meet store.fdb.verify_peers), ";

const STATUS_TIME: Duration = Duration::from_secs(1);

/// Finds in the client's own status why it is not connected, if that is told there.
///
/// Source: FoundationDB 7.3, `fdb_database_get_client_status`.
fn explain(status: &Value) -> Option<String> {
    let connections = status.get("Connections")?.as_array()?;
    let other = connections.iter().find(|connection| connection["Compatible"] == Value::Bool(false))?;
    Some(format!(
        "{} runs another release of FoundationDB than the client library on this machine; install that of the servers",
        other["Address"].as_str().unwrap_or("a server")
    ))
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_another_release_is_named() {
        let status = serde_json::json!({ "Healthy": false, "Connections": [
            { "Address": "10.0.0.1:4500", "Compatible": true },
            { "Address": "10.0.0.2:4500", "Compatible": false },
        ]});
        assert!(explain(&status).unwrap().starts_with("10.0.0.2:4500 runs another release"));
        assert_eq!(explain(&serde_json::json!({ "Connections": [] })), None);
        assert_eq!(explain(&Value::Null), None);
    }
}
