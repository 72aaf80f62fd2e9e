//! Nodes in network namespaces of their own, on one bridge, so that links between them can be cut.

use std::{
    env::current_exe,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, id},
};

use aesp_tests::Process;
use anyhow::{Context, ensure};
use tokio::task::block_in_place;

use crate::delay::READY;

/// Where frames go that shall not arrive: an address that nobody has.
const NOWHERE: &str = "02:00:00:00:de:ad";
const DEVICE: &str = "eth0";
/// The packet queue of each namespace.
const QUEUE: &str = "7";

/// A bridge on this machine with a namespace for each node. Needs root and iproute2. Taken down when dropped.
pub(crate) struct Network {
    bridge: String,
    subnet: u8,
    namespaces: Vec<String>,
    /// The links that are cut.
    cut: Vec<(usize, usize)>,
    /// What delays packets, one in each namespace, while links are bad.
    delayers: Vec<Process>,
}

impl Network {
    /// Puts up a bridge and `nodes` namespaces.
    ///
    /// # Errors
    /// When a step fails; what was put up is taken down.
    pub(crate) fn up(nodes: usize) -> anyhow::Result<Self> {
        // Two runs on one machine must not meet.
        let tag = id() % 10_000;
        let subnet = u8::try_from(id() % 200).unwrap_or(0) + 20;
        let mut network = Self {
            bridge: format!("chaos{tag}"),
            subnet,
            namespaces: Vec::new(),
            cut: Vec::new(),
            delayers: Vec::new(),
        };
        let bridge = network.bridge.clone();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.address(None)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..nodes {
            let namespace = format!("chaos{tag}n{node}");
            let (outer, inner) = (outer(&namespace), format!("in{tag}n{node}"));
            ip(&["netns", "add", &namespace])?;
            network.namespaces.push(namespace.clone());
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner])?;
            ip(&["link", "set", &inner, "netns", &namespace, "name", DEVICE])?;
            ip(&["link", "set", &outer, "master", &bridge, "up"])?;
            let address = format!("{}/24", network.address(Some(node)));
            ip(&["-n", &namespace, "addr", "add", &address, "dev", DEVICE])?;
            ip(&["-n", &namespace, "link", "set", DEVICE, "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// Returns the address of a node; without one, of the clients.
    pub(crate) fn address(&self, node: Option<usize>) -> IpAddr {
        let host = node.map_or(1, |node| u8::try_from(node).unwrap_or(u8::MAX).saturating_add(11));
        Ipv4Addr::new(10, 77, self.subnet, host).into()
    }

    /// Returns what a command is put behind to run in the namespace of a node.
    pub(crate) fn prefix(&self, node: usize) -> Vec<String> {
        ["ip", "netns", "exec", self.namespaces[node].as_str()].map(str::to_owned).into()
    }

    /// Lets nothing that `from` sends arrive at `to`, without telling anybody.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn cut(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        let address = self.address(Some(to)).to_string();
        let namespace = &self.namespaces[from];
        ip(&[
            "-n",
            namespace,
            "neigh",
            "replace",
            &address,
            "lladdr",
            NOWHERE,
            "dev",
            DEVICE,
            "nud",
            "permanent",
        ])?;
        self.cut.push((from, to));
        Ok(())
    }

    /// Mends everything that was cut.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn mend(&mut self) -> anyhow::Result<()> {
        while let Some((from, to)) = self.cut.pop() {
            let address = self.address(Some(to)).to_string();
            ip(&["-n", &self.namespaces[from], "neigh", "del", &address, "dev", DEVICE])?;
        }
        Ok(())
    }

    /// Delays, mixes up and loses what arrives at every node, without telling who sent it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) async fn worsen(&mut self, weather: &Weather, log: &Path) -> anyhow::Result<()> {
        let own = current_exe().context("the place of this program is unknown")?;
        for (n, namespace) in self.namespaces.iter().enumerate() {
            let mut command = tokio::process::Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(&own).args(["delay", "--queue", QUEUE]);
            for (flag, value) in [
                ("--least-ms", weather.least_ms),
                ("--most-ms", weather.most_ms),
                ("--seed", weather.seed ^ n as u64),
            ] {
                command.args([flag, &value.to_string()]);
            }
            let mut delayer = Process::start(command, log)?;
            delayer.line("packets are delayed", |line| (line == READY).then_some(())).await?;
            self.delayers.push(delayer);
            block_in_place(|| {
                let rules = Rules { namespace, loss: f64::from(weather.loss_percent) / 100.0 };
                rules.set()
            })?;
        }
        Ok(())
    }

    /// Undoes [`Network::worsen`].
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) async fn better(&mut self) -> anyhow::Result<()> {
        if self.delayers.is_empty() {
            return Ok(());
        }
        block_in_place(|| {
            self.namespaces.iter().try_for_each(|namespace| filter(namespace, &["-F", "INPUT"]))
        })?;
        for mut delayer in self.delayers.drain(..) {
            // What it holds back is lost.
            delayer.kill().await?;
        }
        Ok(())
    }
}

/// How bad links are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// A packet is late by so much at least,
    pub(crate) least_ms: u64,
    /// and by so much at most, so that some overtake others.
    pub(crate) most_ms: u64,
    pub(crate) loss_percent: u32,
    pub(crate) seed: u64,
}

/// What a namespace does to packets that arrive. Where they arrive and not where they leave: a sender would be told.
struct Rules<'a> {
    namespace: &'a str,
    /// The share that is lost, 0 to 1.
    loss: f64,
}

impl Rules<'_> {
    fn set(&self) -> anyhow::Result<()> {
        let loss = self.loss.to_string();
        let arriving = ["-A", "INPUT", "-i", DEVICE];
        let lost = ["-m", "statistic", "--mode", "random", "--probability", &loss, "-j", "DROP"];
        // Past a delayer that has gone.
        let queued = ["-j", "NFQUEUE", "--queue-num", QUEUE, "--queue-bypass"];
        filter(self.namespace, &[&arriving[..], &lost[..]].concat())?;
        filter(self.namespace, &[&arriving[..], &queued[..]].concat())
    }
}

fn filter(namespace: &str, rule: &[&str]) -> anyhow::Result<()> {
    ip(&[&["netns", "exec", namespace, "iptables", "-w"][..], rule].concat())
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // A namespace lives on as long as a connection in it still asks for an acknowledgement; its link must not.
            let _gone = ip(&["link", "del", &outer(namespace)]);
            let _gone = ip(&["netns", "del", namespace]);
        }
        let _gone = ip(&["link", "del", &self.bridge]);
    }
}

/// Returns the name of a namespace's link on the bridge: names of links have at most 15 characters.
fn outer(namespace: &str) -> String {
    namespace.replacen("chaos", "out", 1)
}

/// Tells why there can be no namespaces here, if so.
pub(crate) fn no_namespaces() -> Option<String> {
    let probe = format!("chaosprobe{}", id() % 10_000);
    match ip(&["netns", "add", &probe]) {
        Ok(()) => ip(&["netns", "del", &probe]).err().map(|error| format!("{error:#}")),
        Err(error) => Some(format!("no network namespaces: {error:#}; needs root and iproute2")),
    }
}

/// Tells why packets can't be lost and delayed here, if so.
pub(crate) fn no_filters() -> Option<String> {
    let probe = format!("chaosprobe{}", id() % 10_000);
    let tried = ip(&["netns", "add", &probe]).and_then(|()| {
        let tried = Rules { namespace: &probe, loss: 0.5 }.set();
        ip(&["netns", "del", &probe]).and(tried)
    });
    tried.err().map(|error| {
        format!(
            "packets can't be filtered: {error:#}; needs iptables and the kernel's xt_statistic and NFQUEUE"
        )
    })
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.with_context(|| format!("{program} does not start: run scripts/install-fault-tools"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
