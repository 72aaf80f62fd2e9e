use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_proto::{Incarnation, SystemClock, Timestamp};
use async_trait::async_trait;
use prometheus::Registry;
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

use super::{
    Announcement, Context, Gossip, Hint, Metrics, Options, Secrets, Timing,
    envelope::{self, Stamp},
    socket::{Bind, Datagrams, Udp},
};
use crate::{Load, MemberState, ObserveRefusals, Refusal};

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Refused(Mutex<Vec<Refusal>>);

impl ObserveRefusals for Refused {
    fn refused(&self, refusal: Refusal) {
        self.0.lock().unwrap().push(refusal);
    }
}

struct Node {
    gossip: Gossip,
    refused: Arc<Refused>,
    metrics: Metrics,
}

fn secrets(bytes: &[u8]) -> Secrets {
    Secrets::new(bytes.iter().map(|byte| vec![*byte; 32])).unwrap()
}

fn options(number: u64, seed: Option<SocketAddr>) -> Options {
    Options {
        incarnation: Incarnation(number),
        name: format!("n{number}"),
        cluster: "blue".into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        seeds: seed.iter().map(SocketAddr::to_string).collect(),
        secrets: secrets(&[1]),
        timing: Timing::default(),
    }
}

fn announcement(number: u64) -> Announcement {
    Announcement {
        state: MemberState::Joining,
        peers: format!("10.0.0.{number}:9444"),
        fulfilment: number,
        load: Load { sessions: 1, calls: 2 },
    }
}

impl Node {
    async fn start(options: Options, bind: Arc<dyn Bind>) -> Self {
        let (refused, metrics) = (Arc::new(Refused::default()), Metrics::register(&Registry::new()).unwrap());
        let context =
            Context { clock: Arc::new(SystemClock), metrics: metrics.clone(), refused: refused.clone() };
        let first = announcement(options.incarnation.0);
        let gossip = Gossip::start_over(context, options, first, bind).await.unwrap();
        Self { gossip, refused, metrics }
    }

    async fn hears(&self, what: &str, so: impl FnMut(&Arc<[Hint]>) -> bool) {
        let mut hints = self.gossip.hints();
        let seen = timeout(DEADLINE, hints.wait_for(so)).await.map(|_| ());
        assert!(seen.is_ok(), "not heard: {what}; {:?}", self.gossip.hints().borrow());
    }

    async fn hears_alive(&self, numbers: &[u64]) {
        self.hears(&format!("{numbers:?} alive"), |hints| {
            let alive: Vec<u64> =
                hints.iter().filter(|hint| hint.alive).map(|hint| hint.incarnation.0).collect();
            alive == numbers
        })
        .await;
    }

    async fn refuses(&self, reason: &str) {
        let told = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while !self.refused.0.lock().unwrap().iter().any(|refusal| refusal.reason == reason) {
                ticks.tick().await;
            }
        };
        assert!(timeout(DEADLINE, told).await.is_ok(), "{reason}: {:?}", self.refused.0.lock().unwrap());
        assert!(self.metrics.rejected.with_label_values(&[reason]).get() > 0);
    }
}

async fn cluster(count: u64) -> Vec<Node> {
    let mut nodes = vec![Node::start(options(1, None), Arc::new(Udp)).await];
    for number in 2..=count {
        let seed = nodes[0].gossip.address();
        nodes.push(Node::start(options(number, Some(seed)), Arc::new(Udp)).await);
    }
    for (place, node) in nodes.iter().enumerate() {
        let others: Vec<u64> = (1..=count).filter(|number| *number != place as u64 + 1).collect();
        node.hears_alive(&others).await;
    }
    nodes
}

#[tokio::test]
async fn nodes_hear_what_others_tell_and_what_changes() {
    let nodes = cluster(3).await;
    nodes[2].hears("the first announcement", |hints| hints[0].announcement == announcement(1)).await;
    let changed = Announcement { state: MemberState::Draining, fulfilment: 77, ..announcement(1) };
    nodes[0].gossip.announce(changed.clone());
    for node in &nodes[1..] {
        node.hears("the change", |hints| hints[0].announcement == changed && hints[0].name == "n1").await;
    }
}

#[tokio::test]
async fn a_crash_is_heard_of_and_the_next_life_is_another_incarnation() {
    let mut nodes = cluster(5).await;
    let crashed = nodes.pop().unwrap();
    crashed.gossip.stop().await;
    let began = Instant::now();
    for node in &nodes {
        node.hears("5 dead", |hints| hints.iter().any(|hint| hint.incarnation.0 == 5 && !hint.alive)).await;
    }
    println!("all of four nodes heard of the crash of the fifth after {:?}", began.elapsed());
    let again = Options { name: "n5".into(), ..options(6, Some(nodes[0].gossip.address())) };
    let again = Node::start(again, Arc::new(Udp)).await;
    again.hears_alive(&[1, 2, 3, 4]).await;
    nodes[3].hears_alive(&[1, 2, 3, 6]).await;
}

#[tokio::test]
async fn secrets_are_rotated_without_losing_anybody() {
    let nodes = cluster(2).await;
    for step in [&[1, 2][..], &[2, 1], &[2]] {
        for node in &nodes {
            node.gossip.rotate(&secrets(step));
        }
        let version = 100 + u64::from(step[0]) * 10 + step.len() as u64;
        nodes[0].gossip.announce(Announcement { fulfilment: version, ..announcement(1) });
        nodes[1]
            .hears("what was told under the next secret", |hints| hints[0].announcement.fulfilment == version)
            .await;
        nodes[1].hears_alive(&[1]).await;
    }
}

#[tokio::test]
async fn what_strangers_send_is_refused_counted_and_told() {
    let node = Node::start(options(1, None), Arc::new(Udp)).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = node.gossip.address();
    let now = aesp_proto::Clock::now(&SystemClock);
    let stamp = Stamp { sender: Incarnation(9), sequence: 1, sent: now };
    let seal = |secret: u8, cluster: &str, stamp: Stamp| {
        envelope::seal(&secrets(&[secret]).keys(cluster)[0], cluster, stamp, b"no chitchat message").unwrap()
    };
    let mut forged = seal(1, "blue", stamp);
    *forged.last_mut().unwrap() ^= 1;
    let old = Stamp { sequence: 2, sent: Timestamp(now.0 - 3_600_000), ..stamp };
    let sent = [
        ("truncated", b"short".to_vec()),
        ("other_secret", seal(2, "blue", stamp)),
        ("other_cluster", seal(1, "green", stamp)),
        ("forged", forged),
        ("stale", seal(1, "blue", old)),
        ("own_incarnation", seal(1, "blue", Stamp { sender: Incarnation(1), ..stamp })),
        ("malformed", seal(1, "blue", stamp)),
        // The same once more.
        ("replayed", seal(1, "blue", stamp)),
    ];
    for (reason, datagram) in &sent {
        socket.send_to(datagram, at).await.unwrap();
        node.refuses(reason).await;
    }
    // A flood is counted exactly, and told once in the interval.
    let told = node.refused.0.lock().unwrap().len();
    for _ in 0..200 {
        socket.send_to(b"short", at).await.unwrap();
    }
    let counted = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while node.metrics.rejected.with_label_values(&["truncated"]).get() < 201 {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, counted).await.expect("each is counted");
    assert_eq!(node.refused.0.lock().unwrap().len(), told);
    // Nobody is answered who has not the secret.
    let mut buffer = [0; 64];
    assert_eq!(socket.try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(node.gossip.hints().borrow().is_empty());
}

/// UDP whose receiving end breaks when it is told to, and whose datagrams are sent twice and in the wrong order.
struct Faulty {
    breaks: Arc<AtomicU64>,
    disorder: bool,
}

struct FaultyDatagrams {
    socket: UdpSocket,
    breaks: Arc<AtomicU64>,
    disorder: bool,
    held: Mutex<VecDeque<(Vec<u8>, SocketAddr)>>,
}

#[async_trait]
impl Bind for Faulty {
    async fn bind(&self, at: SocketAddr) -> io::Result<(Arc<dyn Datagrams>, SocketAddr)> {
        let socket = UdpSocket::bind(at).await?;
        let at = socket.local_addr()?;
        let held = Mutex::default();
        let datagrams =
            FaultyDatagrams { socket, breaks: self.breaks.clone(), disorder: self.disorder, held };
        Ok((Arc::new(datagrams), at))
    }
}

#[async_trait]
impl Datagrams for FaultyDatagrams {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if !self.disorder {
            return self.socket.send_to(datagram, to).await.map(|_| ());
        }
        let late = {
            let mut held = self.held.lock().unwrap();
            held.push_back((datagram.to_vec(), to));
            if held.len() < 3 { None } else { held.pop_front() }
        };
        self.socket.send_to(datagram, to).await?;
        // A copy of an earlier one.
        if let Some((datagram, to)) = late {
            self.socket.send_to(&datagram, to).await?;
        }
        Ok(())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.socket.recv_from(buffer).await?;
        let broken =
            self.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if broken { Err(io::Error::other("the socket broke")) } else { Ok(received) }
    }
}

#[tokio::test]
async fn a_broken_socket_is_replaced_and_the_node_is_alive_again() {
    let first = Node::start(options(1, None), Arc::new(Udp)).await;
    let breaks = Arc::new(AtomicU64::new(0));
    let faulty = Faulty { breaks: breaks.clone(), disorder: false };
    let second = Node::start(options(2, Some(first.gossip.address())), Arc::new(faulty)).await;
    first.hears_alive(&[2]).await;
    breaks.store(1, Ordering::SeqCst);
    let respawned = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while second.metrics.respawns.get() == 0 {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, respawned).await.expect("begins again");
    // Changes are heard again, which needs a loop that lives in both directions.
    second.gossip.announce(Announcement { fulfilment: 9, ..announcement(2) });
    first
        .hears("a change after the break", |hints| hints[0].alive && hints[0].announcement.fulfilment == 9)
        .await;
    second.hears_alive(&[1]).await;
    assert_eq!(first.gossip.hints().borrow().len(), 1, "one hint for one incarnation");
}

#[tokio::test]
async fn repeated_and_late_datagrams_do_no_harm() {
    let first = Node::start(options(1, None), Arc::new(Udp)).await;
    let faulty = Faulty { breaks: Arc::default(), disorder: true };
    let second = Node::start(options(2, Some(first.gossip.address())), Arc::new(faulty)).await;
    first.hears_alive(&[2]).await;
    second.hears_alive(&[1]).await;
    first.refuses("replayed").await;
    first.hears_alive(&[2]).await;
}
