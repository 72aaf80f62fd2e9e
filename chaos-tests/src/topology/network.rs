//! Nodes in network namespaces of their own, on one bridge, so that links between them can be cut.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::{Command, id},
};

use anyhow::{Context, ensure};

/// Where frames go that shall not arrive: an address that nobody has.
const NOWHERE: &str = "02:00:00:00:de:ad";
const DEVICE: &str = "eth0";

/// A bridge on this machine with a namespace for each node. Needs root and iproute2. Taken down when dropped.
pub(crate) struct Network {
    bridge: String,
    subnet: u8,
    namespaces: Vec<String>,
    /// The links that are cut.
    cut: Vec<(usize, usize)>,
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
        let mut network =
            Self { bridge: format!("chaos{tag}"), subnet, namespaces: Vec::new(), cut: Vec::new() };
        let bridge = network.bridge.clone();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.address(None)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..nodes {
            let namespace = format!("chaos{tag}n{node}");
            let (outer, inner) = (format!("ch{tag}n{node}"), format!("ci{tag}n{node}"));
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

    /// Delays and loses what every node sends.
    ///
    /// # Errors
    /// When the system has no netem.
    pub(crate) fn worsen(&self, delay_ms: u32, loss_percent: u32) -> anyhow::Result<()> {
        let (delay, loss) = (format!("{delay_ms}ms"), format!("{loss_percent}%"));
        for namespace in &self.namespaces {
            let netem = ["qdisc", "replace", "dev", DEVICE, "root", "netem", "delay", &delay, "loss", &loss];
            run("tc", &[&["-n", namespace.as_str()][..], &netem[..]].concat())?;
        }
        Ok(())
    }

    /// Undoes [`Network::worsen`].
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn better(&self) -> anyhow::Result<()> {
        for namespace in &self.namespaces {
            run("tc", &["-n", namespace, "qdisc", "del", "dev", DEVICE, "root"])?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let _gone = ip(&["netns", "del", namespace]);
        }
        let _gone = ip(&["link", "del", &self.bridge]);
    }
}

/// Tells why there can be no namespaces here, if so.
pub(crate) fn no_namespaces() -> Option<String> {
    let probe = format!("chaosprobe{}", id() % 10_000);
    match ip(&["netns", "add", &probe]) {
        Ok(()) => ip(&["netns", "del", &probe]).err().map(|error| format!("{error:#}")),
        Err(error) => Some(format!("no network namespaces: {error:#}; needs root and iproute2")),
    }
}

/// Tells why links can't be made worse here, if so.
pub(crate) fn no_netem() -> Option<String> {
    let probe = format!("chaosprobe{}", id() % 10_000);
    let tried = ip(&["netns", "add", &probe]).and_then(|()| {
        let tried = run("tc", &["-n", &probe, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]);
        ip(&["netns", "del", &probe]).and(tried)
    });
    tried.err().map(|error| format!("no netem: {error:#}; needs the kernel module sch_netem"))
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
