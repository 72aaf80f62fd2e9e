use std::{sync::Arc, time::Duration};

use aesp_proto::{
    Incarnation,
    v1::{
        PeerBatch, PeerFrame, PeerHello, PeerPart, peer_frame::Frame, peer_service_client::PeerServiceClient,
    },
};
use futures::{FutureExt, Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};
use tower::service_fn;

use super::{
    super::{Options, Peer, PeerError, Topic},
    world::{Authority, BOTH, DEADLINE, DOMAIN, Node, eventually, incarnation, introduce},
};

/// Dials a node by hand, as the node that the certificate names, and says these frames. The stream stays open.
async fn dial(
    authority: &Authority,
    node: &Node,
    name: &str,
    frames: Vec<Frame>,
) -> Result<Streaming<PeerBatch>, Status> {
    dial_saying(authority, node, name, stream::iter([batch(frames)]).chain(stream::pending())).await
}

fn batch(frames: Vec<Frame>) -> PeerBatch {
    PeerBatch { frames: frames.into_iter().map(|frame| PeerFrame { frame: Some(frame) }).collect() }
}

/// As [`dial`], with batches that come one after the other.
async fn dial_saying(
    authority: &Authority,
    node: &Node,
    name: &str,
    said: impl Stream<Item = PeerBatch> + Send + 'static,
) -> Result<Streaming<PeerBatch>, Status> {
    let (certificate, key, _) = authority.issue(&format!("spiffe://{DOMAIN}/node/{name}"), &BOTH);
    let tls = authority.tls((certificate, key), &[]);
    let at = node.at;
    let connector = service_fn(move |_| {
        let connector = TlsConnector::from(tls.client.clone());
        async move {
            let name = ServerName::try_from("peer.invalid").unwrap();
            connector.connect(name, TcpStream::connect(at).await?).await.map(TokioIo::new)
        }
    });
    let channel = Endpoint::from_static("http://peer").connect_with_connector(connector).await.unwrap();
    let mut client = PeerServiceClient::new(channel);
    let linked = timeout(DEADLINE, client.link(said)).await.expect("is answered");
    linked.map(tonic::Response::into_inner)
}

fn hello() -> PeerHello {
    PeerHello {
        cluster_id: "c1".into(),
        incarnation: 5,
        oldest_protocol: 1,
        newest_protocol: 1,
        attempt: 1,
        recipient: 1,
        birth: String::new(),
    }
}

async fn known(authority: &Authority) -> Node {
    let mut options = Options::new(incarnation(1), "c1", DOMAIN);
    options.timing.introduction = Duration::from_millis(200);
    let node = Node::start_as(authority, &format!("spiffe://{DOMAIN}/node/n1"), options).await;
    let others = [5, 6].map(|number| Peer {
        incarnation: Incarnation(number),
        name: format!("n{number}"),
        endpoint: "127.0.0.1:1".into(),
        birth: format!("birth of {number}"),
    });
    node.nodes.send_replace(Arc::from(others));
    node
}

#[tokio::test]
async fn hellos_that_prove_nothing_are_refused_each_for_its_reason() {
    let authority = Authority::new();
    let node = known(&authority).await;
    let wrong = [
        ("wrong_cluster", "n5", PeerHello { cluster_id: "c2".into(), ..hello() }),
        ("wrong_recipient", "n5", PeerHello { recipient: 2, ..hello() }),
        ("unknown_incarnation", "n5", PeerHello { incarnation: 7, ..hello() }),
        ("wrong_incarnation", "n5", PeerHello { incarnation: 6, ..hello() }),
        ("wrong_direction", "n5", PeerHello { incarnation: 1, ..hello() }),
        ("protocol", "n5", PeerHello { oldest_protocol: 70, newest_protocol: 71, ..hello() }),
        // Who speaks protocol 2 has to prove its store.
        ("other_store", "n5", PeerHello { newest_protocol: 2, ..hello() }),
        ("other_store", "n5", PeerHello { newest_protocol: 2, birth: "birth of 6".into(), ..hello() }),
    ];
    for (reason, name, hello) in wrong {
        let status = dial(&authority, &node, name, vec![Frame::Hello(hello)]).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, reason));
        node.refuses(reason).await;
    }
    let silent = dial(&authority, &node, "n5", vec![]).await.unwrap_err();
    assert_eq!(silent.message(), "no_hello");
    assert!(node.peers.connected().borrow().is_empty());
    assert!(node.service.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn of_two_links_of_a_pair_the_later_attempt_stays() {
    let authority = Authority::new();
    let node = known(&authority).await;
    let dial = async |attempt: u64| {
        dial(&authority, &node, "n5", vec![Frame::Hello(PeerHello { attempt, ..hello() })]).await
    };
    let mut second = dial(2).await.unwrap();
    node.connects_to(&[5]).await;
    assert_eq!(dial(1).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(dial(2).await.unwrap_err().code(), Code::AlreadyExists);
    assert!(timeout(DEADLINE, second.next()).await.unwrap().unwrap().is_ok(), "the first one was greeted");
    let third = dial(3).await.unwrap();
    let ended = async { while let Some(Ok(_)) = second.next().await {} };
    timeout(DEADLINE, ended).await.expect("the older link ends");
    node.connects_to(&[5]).await;
    let (five, events) = (incarnation(5), node.service.events.lock().unwrap().clone());
    assert_eq!(events, [(five, true), (five, false), (five, true)]);
    drop(third);
    node.connects_to(&[]).await;
}

#[tokio::test]
async fn who_breaks_the_protocol_loses_the_link() {
    let authority = Authority::new();
    let node = known(&authority).await;
    let mut link =
        dial(&authority, &node, "n5", vec![Frame::Hello(hello()), Frame::Hello(hello())]).await.unwrap();
    let ended = async { while let Some(Ok(_)) = link.next().await {} };
    timeout(DEADLINE, ended).await.expect("the link ends");
    eventually("it is down", || node.service.events.lock().unwrap().len() == 2).await;
    node.refuses("second_hello").await;
}

#[tokio::test]
async fn who_sends_more_than_it_may_loses_the_link_and_is_on_record() {
    let authority = Authority::new();
    let node = known(&authority).await;
    let (say, said) = mpsc::channel(8);
    say.send(batch(vec![Frame::Hello(hello())])).await.unwrap();
    let mut link = dial_saying(&authority, &node, "n5", ReceiverStream::new(said)).await.unwrap();
    node.connects_to(&[5]).await;
    let answer = node.peers.request(incarnation(5), Topic::Forward, "x".into()).unwrap();
    let asked = async {
        loop {
            let frames = link.next().await.unwrap().unwrap().frames;
            let asked = frames.into_iter().find_map(|frame| match frame.frame {
                Some(Frame::Request(request)) => Some(request),
                _ => None,
            });
            if let Some(request) = asked {
                return request;
            }
        }
    };
    let request = timeout(DEADLINE, asked).await.expect("the request comes");
    // Nobody reads the answer: what fits into its window is kept, what does not ends the link.
    let part = PeerPart { id: request.id, payload: vec![0; request.window as usize].into() };
    for _ in 0..2 {
        say.send(batch(vec![Frame::Part(part.clone())])).await.unwrap();
    }
    node.refuses("window_overrun").await;
    node.connects_to(&[]).await;
    let ended = timeout(DEADLINE, answer.one()).await.expect("the request ends");
    assert!(matches!(ended, Err(PeerError::Lost)), "{ended:?}");
}

#[tokio::test]
async fn two_releases_speak_the_newest_protocol_that_both_know() {
    let authority = Authority::new();
    let start = async |number: u64, protocols| {
        let mut options = Options::new(incarnation(number), "c1", DOMAIN);
        options.protocols = protocols;
        Node::start_as(&authority, &format!("spiffe://{DOMAIN}/node/n{number}"), options).await
    };
    let (old, new, later) = (start(1, 1..=1).await, start(2, 1..=2).await, start(3, 2..=3).await);
    introduce(&[&old, &new, &later]);
    old.connects_to(&[2]).await;
    new.connects_to(&[1, 3]).await;
    later.connects_to(&[2]).await;
    let answer = new.peers.request(incarnation(1), Topic::Forward, "x".into()).unwrap().one().await;
    assert_eq!(answer.unwrap(), "x");
    let spoken = [(incarnation(1), 1), (incarnation(3), 2)];
    assert_eq!(new.peers.spoken(), spoken.into());
    assert_eq!(old.peers.spoken(), [(incarnation(2), 1)].into());
    // Two releases apart: refused, and said so.
    old.refuses("protocol").await;
    assert_eq!(old.peers.connected().borrow()[..], [incarnation(2)]);
    assert!(later.peers.connected().changed().now_or_never().is_none());
}

#[tokio::test]
async fn a_node_on_a_copy_of_the_store_is_found_out_by_both_sides() {
    let authority = Authority::new();
    let start = async |birth: &str, protocols| {
        let mut options = Options::new(incarnation(2), "c1", DOMAIN);
        options.birth = birth.into();
        options.protocols = protocols;
        Node::start_as(&authority, &format!("spiffe://{DOMAIN}/node/n2"), options).await
    };
    let first = Node::start(&authority, 1).await;
    // The same certificate, name and number; each wrote its row into a store of its own.
    let (original, copy) = (start("original", 1..=2).await, start("copy", 1..=2).await);
    first.nodes.send_replace(Arc::from([first.peer(), original.peer()]));
    copy.nodes.send_replace(Arc::from([first.peer(), copy.peer()]));
    first.refuses("other_store").await;
    copy.refuses("other_store").await;
    assert!(copy.peers.connected().borrow().is_empty());
    original.nodes.send_replace(Arc::from([first.peer(), original.peer()]));
    original.connects_to(&[1]).await;
    assert_eq!(original.peers.spoken(), [(incarnation(1), 2)].into());
    // Nor does the copy link up with a node of the original store that it takes for one of its own.
    let older = Peer { birth: "birth of another 1".into(), ..first.peer() };
    let fresh = start("third", 1..=2).await;
    first.nodes.send_replace(Arc::from([first.peer(), fresh.peer()]));
    fresh.nodes.send_replace(Arc::from([older, fresh.peer()]));
    fresh.refuses("other_store").await;
    assert!(fresh.peers.connected().borrow().is_empty());
}
