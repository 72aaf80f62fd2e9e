use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};

use super::{
    super::{NotSent, Peer, PeerError, Topic},
    proxy::Proxy,
    world::{Authority, DEADLINE, Node, eventually, incarnation},
};

/// Two nodes, the younger of which reaches the older one through a proxy only.
async fn proxied(authority: &Authority) -> (Node, Node, Proxy) {
    let (older, younger) = (Node::start(authority, 1).await, Node::start(authority, 2).await);
    let proxy = Proxy::to(older.at).await;
    let behind = Peer { endpoint: proxy.at.to_string(), ..older.peer() };
    older.nodes.send_replace(Arc::from([older.peer(), younger.peer()]));
    younger.nodes.send_replace(Arc::from([behind, younger.peer()]));
    older.connects_to(&[2]).await;
    younger.connects_to(&[1]).await;
    (older, younger, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_ends_every_request_once_and_what_was_not_sent_was_not_seen() {
    let (older, younger, proxy) = proxied(&Authority::new()).await;
    for round in 0..6_u32 {
        younger.connects_to(&[1]).await;
        older.connects_to(&[2]).await;
        // In both directions: small ones that are answered, ones that hang, and big ones that fill the transport.
        let mut ends = FuturesUnordered::new();
        for number in 0..400_u32 {
            let text = match number % 4 {
                0 => format!("hang {round} {number}"),
                1 => format!("big {round} {number} {}", "x".repeat(60_000)),
                _ => format!("echo {round} {number}"),
            };
            let (from, to) = if number % 2 == 0 { (&younger, 1) } else { (&older, 2) };
            let payload = Bytes::from(text);
            match from.peers.request(incarnation(to), Topic::Forward, payload.clone()) {
                Ok(answer) => ends.push(async move { (payload, answer.one().await) }),
                Err(PeerError::NotSent(NotSent::Overloaded | NotSent::NoLink | NotSent::LinkEnded)) => {
                    assert_unseen(&older, &younger, &payload);
                }
                Err(other) => panic!("{other:?}"),
            }
            if number == 100 + round * 50 {
                proxy.cut();
            }
        }
        let mut kinds = BTreeSet::new();
        while let Some((payload, end)) = timeout(DEADLINE, ends.next()).await.expect("every request ends") {
            match end {
                Ok(answer) => {
                    assert_eq!(answer, payload, "the answer of another request");
                    kinds.insert("answered");
                }
                Err(PeerError::Lost) => drop(kinds.insert("lost")),
                Err(PeerError::NotSent(_)) => {
                    assert_unseen(&older, &younger, &payload);
                    kinds.insert("not sent");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(
            kinds.contains("lost") || kinds.contains("not sent"),
            "round {round}: the cut hit nothing: {kinds:?}"
        );
        eventually("what ran for the lost link was stopped", || {
            older.service.running.load(Ordering::SeqCst) + younger.service.running.load(Ordering::SeqCst) == 0
        })
        .await;
        proxy.repair();
    }
}

fn assert_unseen(older: &Node, younger: &Node, payload: &Bytes) {
    for node in [older, younger] {
        assert!(
            !node.service.seen.lock().unwrap().contains(payload),
            "seen, but reported as not sent: {payload:?}"
        );
    }
}

#[tokio::test]
async fn a_silent_peer_is_down_within_a_bounded_time_and_comes_back() {
    let (older, younger, proxy) = proxied(&Authority::new()).await;
    let silence = younger.peers.0.options.timing.silence;
    proxy.silence();
    let began = Instant::now();
    let there = younger.peers.request(incarnation(1), Topic::Forward, "hang".into()).unwrap();
    let back = older.peers.request(incarnation(2), Topic::Forward, "hang".into()).unwrap();
    let (there, back) =
        timeout(DEADLINE, async { tokio::join!(there.one(), back.one()) }).await.expect("both end");
    assert!(matches!((&there, &back), (Err(PeerError::Lost), Err(PeerError::Lost))), "{there:?} {back:?}");
    assert!(began.elapsed() < 2 * silence, "took {:?}", began.elapsed());
    older.connects_to(&[]).await;
    younger.connects_to(&[]).await;
    proxy.repair();
    older.connects_to(&[2]).await;
    younger.connects_to(&[1]).await;
    let answer = older.peers.request(incarnation(2), Topic::Forward, "again".into()).unwrap();
    assert_eq!(answer.one().await.unwrap(), "again");
}

#[tokio::test]
async fn what_waits_for_a_peer_that_does_not_read_is_bounded() {
    let (_older, younger, proxy) = proxied(&Authority::new()).await;
    proxy.silence();
    let payload = Bytes::from(vec![7; 1 << 20]);
    let mut answers = Vec::new();
    let refused = (0..200).find_map(|number| {
        match younger.peers.request(incarnation(1), Topic::Forward, payload.clone()) {
            Ok(answer) => {
                answers.push(answer);
                None
            }
            Err(why) => Some((number, why)),
        }
    });
    let (number, why) = refused.expect("more than the queue holds");
    assert!(matches!(why, PeerError::NotSent(NotSent::Overloaded)), "{why:?}");
    assert!(number <= 40, "{number} MiB were queued");
    // Ended by silence: those that never left say so.
    let mut not_sent = 0;
    for answer in answers {
        match timeout(DEADLINE, answer.one()).await.expect("ends") {
            Err(PeerError::NotSent(NotSent::LinkEnded)) => not_sent += 1,
            Err(PeerError::Lost) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(not_sent >= 20, "{not_sent}");
}

#[tokio::test]
async fn a_node_that_the_store_no_longer_knows_loses_its_link() {
    let (older, younger, _proxy) = proxied(&Authority::new()).await;
    older.nodes.send_replace(Arc::from([older.peer()]));
    older.connects_to(&[]).await;
    younger.connects_to(&[]).await;
    // It tries again and is not let in.
    let mut refused = false;
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while !refused {
            ticks.tick().await;
            refused =
                older.refused.0.lock().unwrap().iter().any(|refusal| refusal.reason == "unknown_incarnation");
        }
    };
    timeout(DEADLINE, waiting).await.expect("is refused");
    assert!(older.peers.connected().borrow().is_empty());
    younger.nodes.send_replace(Arc::from([]));
}
