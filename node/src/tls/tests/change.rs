use std::{fs, time::Duration};

use super::fixture::{DAY, Fixture, assert_closed, issue_server, swap, wait_until};

#[tokio::test]
async fn a_revoked_certificate_loses_its_open_connection_and_gets_no_new_one() {
    let mut host = Fixture::start().await;
    let (revoked, kept) = (host.client("revoked", DAY), host.client("kept", DAY));
    let mut first = host.connect(Some(&revoked)).await.unwrap();
    host.accepted().await;
    let _second = host.connect(Some(&kept)).await.unwrap();
    host.accepted().await;

    assert!(host.authority.revoke(&revoked.serial, host.clock_now()).unwrap());
    assert!(!host.authority.revoke(&revoked.serial, host.clock_now()).unwrap(), "twice is once");
    assert_closed(&mut first).await;
    assert_eq!(host.refusal(Some(&revoked)).await, "revoked");
    assert_eq!(host.connections.count(), 1, "the other stays");
    assert_eq!(host.metrics.closed.with_label_values(&["revoked"]).get(), 1);
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let mut host = Fixture::start().await;
    let client = host.client("short", Duration::from_secs(60));
    let mut open = host.connect(Some(&client)).await.unwrap();
    host.accepted().await;
    host.clock.advance(Duration::from_secs(61));
    assert_closed(&mut open).await;
    assert_eq!(host.metrics.closed.with_label_values(&["expired"]).get(), 1);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let mut host = Fixture::start().await;
    let shown = |stream: &tokio_rustls::client::TlsStream<_>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let open = host.connect(None).await.unwrap();
    host.accepted().await;
    issue_server(&host.authority, host.folder.path(), "next");
    // Between the two the pair does not fit: the old one stays in force.
    swap(&host.folder.path().join("next.key"), &host.folder.path().join("server.key"));
    let (metrics, reloads) = (host.metrics.clone(), |outcome| [outcome]);
    wait_until(|| metrics.reloads.with_label_values(&reloads("failed")).get() > 0).await;
    assert_eq!(shown(&host.connect(None).await.unwrap()), shown(&open));
    swap(&host.folder.path().join("next.pem"), &host.folder.path().join("server.pem"));
    wait_until(|| metrics.reloads.with_label_values(&reloads("succeeded")).get() > 0).await;
    assert_ne!(shown(&host.connect(None).await.unwrap()), shown(&open));
    assert!(host.connections.count() >= 1, "open connections of healthy peers stay");
}

#[tokio::test]
async fn damage_to_a_list_changes_nothing() {
    let mut host = Fixture::start().await;
    let client = host.client("runtime", DAY);
    let _open = host.connect(Some(&client)).await.unwrap();
    host.accepted().await;
    fs::write(host.folder.path().join("ca.crl"), "not a list").unwrap();
    let metrics = host.metrics.clone();
    wait_until(|| metrics.reloads.with_label_values(&["failed"]).get() > 0).await;
    let _another = host.connect(Some(&client)).await.unwrap();
    host.accepted().await;
    assert_eq!(host.connections.count(), 2);
}

#[tokio::test]
async fn an_expired_list_vouches_for_nobody() {
    let host = Fixture::start().await;
    let client = host.client("runtime", 20 * 365 * DAY);
    host.clock.advance(9 * 365 * DAY + 364 * DAY);
    // The list has ended with the authority by now; the certificate has not.
    host.clock.advance(2 * DAY);
    assert!(matches!(host.refusal(Some(&client)).await, "revocation_list_expired" | "expired"));
}
