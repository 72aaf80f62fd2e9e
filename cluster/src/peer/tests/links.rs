use std::{sync::atomic::Ordering, time::Duration};

use aesp_proto::ErrorCode;
use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use tokio::time::timeout;

use super::{
    super::{NotSent, Options, PeerError, Topic},
    world::{Authority, DEADLINE, DOMAIN, Node, cluster, eventually, incarnation, introduce},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_ask_each_other_in_both_directions() {
    let nodes = cluster(&Authority::new(), 3).await;
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.own() != from.own()) {
            let text = format!("from {} to {}", from.own(), to.own());
            let answer = from.peers.request(to.own(), Topic::Forward, text.clone().into()).unwrap();
            assert_eq!(answer.one().await.unwrap(), text);
        }
    }
    let ups = nodes[1].service.events.lock().unwrap().clone();
    assert_eq!(ups.len(), 2);
    assert!(ups.iter().all(|(_, up)| *up));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_requests_at_once_each_get_their_own_answer() {
    let nodes = cluster(&Authority::new(), 2).await;
    let ask = async |number: usize| {
        let text = format!("{number}");
        let answer = nodes[0].peers.request(incarnation(2), Topic::Dispatch, text.clone().into()).unwrap();
        assert_eq!(answer.one().await.unwrap(), text);
    };
    timeout(DEADLINE, join_all((0..5_000).map(ask))).await.expect("all are answered");
    let metrics = nodes[0].metrics();
    let (frames, batches) = (metrics["aesp_peer_sent_frames_total"], metrics["aesp_peer_sent_batches_total"]);
    assert!(frames >= 5_000.0 && batches < frames / 3.0, "{frames} frames travelled in {batches} batches");
    eventually("nothing runs any more", || nodes[1].service.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn answers_stream_in_order_and_end_once() {
    let nodes = cluster(&Authority::new(), 2).await;
    let mut answer = nodes[0].peers.request(incarnation(2), Topic::Forward, "parts 300 1000".into()).unwrap();
    for number in 0..300_usize {
        let part = answer.next().await.unwrap().unwrap();
        assert_eq!((part.len(), part[0]), (1_000, number as u8));
    }
    assert!(answer.next().await.is_none());
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn a_refusal_travels_with_its_code_and_a_panic_does_not_take_the_link_along() {
    let nodes = cluster(&Authority::new(), 2).await;
    let ask = |text: &'static str| {
        nodes[0].peers.request(incarnation(2), Topic::Quotas, text.into()).unwrap().one()
    };
    let refused = ask("refuse").await.unwrap_err();
    assert!(
        matches!(&refused, PeerError::Refused(error) if error.code() == ErrorCode::QuotaExceeded),
        "{refused:?}"
    );
    let panicked = ask("panic").await.unwrap_err();
    assert!(
        matches!(&panicked, PeerError::Refused(error) if error.code() == ErrorCode::InternalError),
        "{panicked:?}"
    );
    assert_eq!(ask("still there").await.unwrap(), "still there");
    assert_eq!(nodes[1].metrics()["aesp_peer_request_panics_total"], 1.0);
}

#[tokio::test]
async fn dropping_an_answer_ends_the_request_at_the_other_side() {
    let nodes = cluster(&Authority::new(), 2).await;
    let answer = nodes[0].peers.request(incarnation(2), Topic::Forward, "hang".into()).unwrap();
    let running = || nodes[1].service.running.load(Ordering::SeqCst);
    eventually("it runs", || running() == 1).await;
    drop(answer);
    eventually("it was stopped", || running() == 0).await;
}

#[tokio::test]
async fn a_slow_caller_bounds_what_is_produced_and_delays_nobody_else() {
    let nodes = cluster(&Authority::new(), 2).await;
    let produced = || nodes[1].service.produced.load(Ordering::SeqCst);
    let window = 64 << 10;
    // 40 MB that nobody takes.
    let mut slow = nodes[0].peers.request(incarnation(2), Topic::Forward, "parts 40000 1000".into()).unwrap();
    assert!(slow.next().await.unwrap().is_ok());
    for number in 0..200 {
        let text = format!("other {number}");
        let answer = nodes[0].peers.request(incarnation(2), Topic::Forward, text.clone().into()).unwrap();
        assert_eq!(timeout(DEADLINE, answer.one()).await.expect("not behind the slow one").unwrap(), text);
    }
    // The window and the one part that waits for credit.
    assert!(produced() <= window + 2_000, "{} bytes were produced for a caller that took 1000", produced());
    let mut taken = 1;
    while let Some(part) = slow.next().await {
        part.unwrap();
        taken += 1;
    }
    assert_eq!(taken, 40_000);
}

#[tokio::test]
async fn parts_above_the_window_pass_one_by_one() {
    let nodes = cluster(&Authority::new(), 2).await;
    let mut answer =
        nodes[0].peers.request(incarnation(2), Topic::Forward, "parts 5 1000000".into()).unwrap();
    let mut sizes = Vec::new();
    while let Some(part) = answer.next().await {
        sizes.push(part.unwrap().len());
    }
    assert_eq!(sizes, [1_000_000; 5]);
}

#[tokio::test]
async fn tells_keep_their_order_with_requests_and_reach_everybody() {
    let nodes = cluster(&Authority::new(), 3).await;
    for number in 0..100_u8 {
        nodes[0].peers.tell(incarnation(2), Topic::Runtimes, Bytes::from(vec![number])).unwrap();
    }
    // Its answer comes after everything that was told before it.
    nodes[0].peers.request(incarnation(2), Topic::Runtimes, "echo".into()).unwrap().one().await.unwrap();
    let told: Vec<u8> = nodes[1].service.told.lock().unwrap().iter().map(|payload| payload[0]).collect();
    assert_eq!(told, (0..100).collect::<Vec<u8>>());
    nodes[2].peers.tell_all(Topic::Changes, "to all".into());
    for node in &nodes[..2] {
        eventually("told", || node.service.told.lock().unwrap().iter().any(|payload| payload == "to all"))
            .await;
    }
}

#[tokio::test]
async fn without_a_link_or_beyond_a_limit_nothing_is_sent() {
    let authority = Authority::new();
    let mut options = Options::new(incarnation(3), "c1", DOMAIN);
    options.limits.outstanding = 4;
    let first = Node::start(&authority, 1).await;
    let small = Node::start_as(&authority, &format!("spiffe://{DOMAIN}/node/n3"), options).await;
    introduce(&[&first, &small]);
    first.connects_to(&[3]).await;
    small.connects_to(&[1]).await;
    let sent =
        |node: &Node, to: u64, payload: Bytes| node.peers.request(incarnation(to), Topic::Forward, payload);
    let why = |result: Result<_, PeerError>| match result {
        Err(PeerError::NotSent(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok::<super::super::Answer, _>(_) => panic!("was sent"),
    };
    assert_eq!(why(sent(&first, 9, "x".into())), NotSent::NoLink);
    assert_eq!(why(sent(&first, 3, vec![0; (8 << 20) + 1].into())), NotSent::TooLarge);
    let running: Vec<_> = (0..4).map(|_| sent(&small, 1, "hang".into()).unwrap()).collect();
    assert_eq!(why(sent(&small, 1, "x".into())), NotSent::Overloaded);
    drop(running);
    // The other side protects itself, too: it looks at no more than it may have open.
    let many: Vec<_> = (0..8).map(|_| sent(&first, 3, "hang".into()).unwrap()).collect();
    let mut ends =
        futures::stream::FuturesUnordered::from_iter(many.into_iter().map(super::super::Answer::one));
    for _ in 0..4 {
        let end = timeout(DEADLINE, ends.next()).await.unwrap().unwrap();
        assert!(matches!(end, Err(PeerError::NotSent(NotSent::Overloaded))), "{end:?}");
    }
    assert_eq!(small.service.seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_stopped_node_says_so_at_once() {
    let nodes = cluster(&Authority::new(), 2).await;
    let answer = nodes[0].peers.request(incarnation(2), Topic::Forward, "hang".into()).unwrap();
    eventually("it runs", || nodes[1].service.running.load(Ordering::SeqCst) == 1).await;
    let began = tokio::time::Instant::now();
    timeout(DEADLINE, nodes[1].peers.stop()).await.expect("stops");
    assert!(matches!(answer.one().await, Err(PeerError::Lost)));
    nodes[0].connects_to(&[]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "not by silence");
    let events = nodes[1].service.events.lock().unwrap().clone();
    assert_eq!(events, [(incarnation(1), true), (incarnation(1), false)]);
}
