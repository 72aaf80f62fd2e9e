use std::{sync::Arc, time::Duration};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName, version::TLS13};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    super::{Options, Peer, PeerError, Topic, identity::Identity},
    world::{Authority, BOTH, DEADLINE, DOMAIN, Node, cluster, eventually, incarnation, introduce},
};

/// Connects to a node as a peer would, with any certificate or none, and returns once the node has ended the connection.
async fn knock(node: &Node, config: Arc<ClientConfig>) {
    let socket = TcpStream::connect(node.at).await.unwrap();
    let name = ServerName::try_from("peer.invalid").unwrap();
    let ended = async {
        if let Ok(mut stream) = TlsConnector::from(config).connect(name, socket).await {
            let mut nothing = Vec::new();
            // Whether it ends in an alert or in silence is the node's choice.
            stream.read_to_end(&mut nothing).await.ok();
            assert!(nothing.is_empty(), "a stranger was told {nothing:?}");
        }
    };
    timeout(DEADLINE, ended).await.expect("the node ends the connection");
}

#[tokio::test]
async fn only_certificates_of_nodes_are_let_in() {
    let authority = Authority::new();
    let node = Node::start(&authority, 1).await;
    for (uri, what) in [
        (format!("spiffe://{DOMAIN}/runtime/worker"), "a Runtime"),
        (format!("spiffe://{DOMAIN}/admin/root"), "an administrator"),
        ("spiffe://other.test/node/n2".into(), "a node of another trust domain"),
        (format!("spiffe://{DOMAIN}.evil/node/n2"), "a trust domain that begins alike"),
        (format!("spiffe://{DOMAIN}/node/"), "a node without a name"),
        (format!("spiffe://{DOMAIN}/node/a/b"), "a name with more segments"),
        (format!("https://{DOMAIN}/node/n2"), "a URI that is no SPIFFE id"),
    ] {
        let before = node.metrics().get("aesp_peer_refused_total").copied().unwrap_or_default();
        let (certificate, key, _) = authority.issue(&uri, &BOTH);
        knock(&node, authority.tls((certificate, key), &[]).client.clone()).await;
        eventually(what, || {
            node.metrics().get("aesp_peer_refused_total").copied().unwrap_or_default() == before + 1.0
        })
        .await;
    }
    node.refuses("wrong_kind").await;
}

#[tokio::test]
async fn strangers_of_other_authorities_and_without_certificates_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let node = Node::start(&authority, 1).await;
    let forged = other.issue(&format!("spiffe://{DOMAIN}/node/n2"), &BOTH);
    // It trusts the node, and shows what another authority signed.
    let own = authority.issue(&format!("spiffe://{DOMAIN}/node/n3"), &BOTH);
    let trusting = authority.tls((own.0, own.1), &[]).client.clone();
    let mut config = (*trusting).clone();
    config.client_auth_cert_resolver =
        other.tls((forged.0, forged.1), &[]).client.client_auth_cert_resolver.clone();
    knock(&node, Arc::new(config)).await;
    node.refuses("unknown_authority").await;

    let mut bare = (*trusting).clone();
    bare.client_auth_cert_resolver =
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
            .client_auth_cert_resolver;
    knock(&node, Arc::new(bare)).await;
    node.refuses("no_certificate").await;

    let mut socket = TcpStream::connect(node.at).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("is ended").ok();
    node.refuses("not_tls").await;
}

#[tokio::test]
async fn a_dialler_says_nothing_to_a_server_that_is_not_the_node_it_means() {
    let authority = Authority::new();
    // Listens where node 1 should be, with a certificate of the same authority.
    for (uri, usages, reason) in [
        (format!("spiffe://{DOMAIN}/runtime/worker"), &BOTH[..], "wrong_kind"),
        (format!("spiffe://{DOMAIN}/node/n9"), &BOTH[..], "wrong_node"),
        (format!("spiffe://{DOMAIN}/node/n1"), &[ExtendedKeyUsagePurpose::ClientAuth][..], "wrong_purpose"),
    ] {
        let node = Node::start(&authority, 2).await;
        let (certificate, key, _) = authority.issue(&uri, usages);
        let tls = authority.tls((certificate, key), &[]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let impostor = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.server.clone());
            let mut said = Vec::new();
            if let Ok(mut stream) = acceptor.accept(socket).await {
                stream.read_to_end(&mut said).await.ok();
            }
            said
        });
        let birth = "birth of 1".into();
        let impostors = Peer { incarnation: incarnation(1), name: "n1".into(), endpoint, birth };
        node.nodes.send_replace(Arc::from([impostors]));
        let said = timeout(DEADLINE, impostor).await.expect("ends").unwrap();
        assert!(said.is_empty(), "{reason}: {said:?}");
        eventually(reason, || {
            node.registry.gather().iter().filter(|family| family.name() == "aesp_peer_dials_total").any(
                |family| family.get_metric().iter().any(|metric| metric.get_label()[0].value() == reason),
            )
        })
        .await;
        assert!(node.peers.connected().borrow().is_empty());
    }
}

#[tokio::test]
async fn a_revoked_peer_is_cut_off_and_stays_out() {
    let authority = Authority::new();
    let nodes = cluster(&authority, 3).await;
    let answer = nodes[0].peers.request(incarnation(3), Topic::Forward, "hang".into()).unwrap();
    let fresh = authority.issue(&format!("spiffe://{DOMAIN}/node/n1"), &BOTH);
    nodes[0].tls.replace(authority.tls((fresh.0, fresh.1), &[nodes[2].serial]));
    assert!(matches!(
        timeout(DEADLINE, answer.one()).await.unwrap(),
        Err(PeerError::Lost | PeerError::NotSent(_))
    ));
    nodes[0].connects_to(&[2]).await;
    nodes[0].refuses("revoked").await;
    assert_eq!(nodes[0].peers.connected().borrow()[..], [incarnation(2)]);
    // With a new certificate it comes back, and nothing had to be restarted.
    let renewed = authority.issue(&format!("spiffe://{DOMAIN}/node/n3"), &BOTH);
    nodes[2].tls.replace(authority.tls((renewed.0, renewed.1), &[]));
    nodes[0].connects_to(&[2, 3]).await;
}

#[tokio::test]
async fn a_certificate_that_ends_takes_its_link_along() {
    let authority = Authority::new();
    let (certificate, _, _) = authority.issue(&format!("spiffe://{DOMAIN}/node/n1"), &BOTH);
    let identity = Identity::of(Some(&[certificate]), DOMAIN).unwrap();
    assert_eq!(identity.name, "n1");
    let clock = aesp_proto::ManualClock::new(aesp_proto::Clock::now(&aesp_proto::SystemClock));
    let clock = Arc::new(clock);
    let first = Node::start(&authority, 1).await;
    let second = Node::start_with(
        &authority,
        &format!("spiffe://{DOMAIN}/node/n2"),
        Options::new(incarnation(2), "c1", DOMAIN),
        clock.clone(),
    )
    .await;
    introduce(&[&first, &second]);
    second.connects_to(&[1]).await;
    clock.set(identity.not_after.plus(Duration::from_secs(1)));
    second.connects_to(&[]).await;
}
