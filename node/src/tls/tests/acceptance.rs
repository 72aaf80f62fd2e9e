use std::time::Duration;

use aesp_proto::Timestamp;
use tokio::net::TcpStream;

use super::fixture::{DAY, Fixture, START, assert_closed, authority, client, wait_until};

#[tokio::test]
async fn a_runtime_is_known_by_its_certificate() {
    let mut host = Fixture::start().await;
    let client = host.client("git-1", DAY);
    let _open = host.connect(Some(&client)).await.unwrap();
    let peer = host.accepted().await;
    let identity = peer.identity.expect("showed a certificate");
    assert_eq!(identity.identity, "spiffe://aesp.local/runtime/git-1");
    assert_eq!(identity.zone.as_deref(), Some("office"));
    assert_eq!(identity.serial, client.serial);
    assert_eq!(identity.fingerprint.len(), 64);
    assert_eq!(identity.not_after, START.plus(DAY));
    assert!(peer.remote.is_some_and(|address| address.ip().is_loopback()));
}

#[tokio::test]
async fn an_agent_needs_no_certificate() {
    let mut host = Fixture::start().await;
    let _open = host.connect(None).await.unwrap();
    assert_eq!(host.accepted().await.identity, None);
}

#[tokio::test]
async fn certificates_without_standing_are_refused() {
    let host = Fixture::start().await;
    let ended = host.client("ended", Duration::from_secs(3_600));
    host.clock.advance(Duration::from_secs(7_200));
    assert_eq!(host.refusal(Some(&ended)).await, "expired");

    let later =
        client(&host.authority, host.folder.path(), "later", Timestamp(START.0 + 86_400_000 * 9), DAY);
    assert_eq!(host.refusal(Some(&later)).await, "not_yet_valid");

    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = client(&authority(elsewhere.path(), 2), elsewhere.path(), "stranger", START, DAY);
    assert_eq!(host.refusal(Some(&stranger)).await, "unknown_authority");

    let counted = |reason| host.metrics.handshakes.with_label_values(&["grpc", reason]).get();
    assert_eq!((counted("expired"), counted("not_yet_valid"), counted("unknown_authority")), (1, 1, 1));
    assert_eq!(host.connections.count(), 0);
}

#[tokio::test]
async fn a_server_certificate_does_not_make_a_client() {
    let host = Fixture::start().await;
    let mut server = host.client("server-as-client", DAY);
    super::fixture::issue_server(&host.authority, host.folder.path(), "other");
    server.certificate = host.folder.path().join("other.pem");
    server.set_key(host.folder.path().join("other.key"));
    assert_eq!(host.refusal(Some(&server)).await, "wrong_purpose");
}

#[tokio::test]
async fn a_client_refuses_a_node_of_another_name() {
    let host = Fixture::start().await;
    let error = host.connect_as(None, "elsewhere.example").await.expect_err("wrong name");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let refusals = host.refusals.clone();
    wait_until(|| refusals.lock().unwrap().contains(&"refused_by_client")).await;
}

#[tokio::test]
async fn a_silent_stranger_is_left_and_a_crowd_is_bounded() {
    let mut host = Fixture::with(1, Duration::from_millis(300)).await;
    let _silent = TcpStream::connect(host.address).await.unwrap();
    let refusals = host.refusals.clone();
    // The silent one holds the only place, until its time is over.
    let crowd = TcpStream::connect(host.address).await.unwrap();
    wait_until(|| refusals.lock().unwrap().contains(&"connection_limit")).await;
    drop(crowd);
    wait_until(|| refusals.lock().unwrap().contains(&"handshake_timeout")).await;
    let mut open = host.connect(None).await.expect("the place is free again");
    host.accepted().await;
    host.connections.close_all();
    assert_closed(&mut open).await;
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    use tokio::io::AsyncWriteExt;
    let host = Fixture::start().await;
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let refusals = host.refusals.clone();
    wait_until(|| refusals.lock().unwrap().contains(&"not_tls")).await;
}
