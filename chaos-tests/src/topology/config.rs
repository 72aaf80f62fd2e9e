//! The configuration files of the nodes, made from what `aesp init` wrote.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::Entropy;
use anyhow::Context;
use data_encoding::HEXLOWER;
use toml::{Table, Value};

/// Below the range from which Linux gives ports to connections, unless it is told otherwise.
const PORTS: Range<u16> = 12_000..32_000;
const TRIES: u32 = 1_000;

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listens {
    pub(super) grpc: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) peers: SocketAddr,
}

impl Listens {
    /// Takes free ports of this machine's loopback, from below those that connections are given: a node that is down must find
    /// its ports free when it comes back.
    pub(super) fn on_loopback() -> anyhow::Result<Self> {
        let random = Entropy::from_system();
        let mut ports = BTreeSet::new();
        for _ in 0..TRIES {
            let port = PORTS.start + u16::try_from(random.below(PORTS.len() as u64))?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            // Gossip takes the number of the peers' port in UDP.
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                ports.insert(address);
            }
            if ports.len() == 4 {
                break;
            }
        }
        let all: [SocketAddr; 4] = ports
            .into_iter()
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| anyhow::anyhow!("no port is free"))?;
        let [grpc, https, metrics, peers] = all;
        Ok(Self { grpc, https, metrics, peers })
    }

    /// Takes the usual ports of an address that the node has for itself.
    pub(super) fn alone_on(address: IpAddr) -> Self {
        let at = |port| SocketAddr::new(address, port);
        Self { grpc: at(9443), https: at(8443), metrics: at(9100), peers: at(9444) }
    }
}

/// What makes a node a member.
pub(super) struct Membership<'a> {
    pub(super) name: &'a str,
    pub(super) listens: Listens,
    /// The peers' addresses of all nodes.
    pub(super) seeds: &'a [SocketAddr],
    /// Its certificate and key, unless the base names them already.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    pub(super) lease: Duration,
}

/// The file that `aesp init` wrote, as the base of all others.
pub(super) struct Base {
    folder: PathBuf,
    table: Table,
}

impl Base {
    /// # Errors
    /// When it can't be read.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("aesp.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        Ok(Self { folder: folder.to_owned(), table: text.parse()? })
    }

    /// Sets a key for all nodes.
    pub(super) fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) {
        section_of(&mut self.table, section).insert(key.into(), value.into());
    }

    /// Writes the file of a lone node.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn lone(&self) -> anyhow::Result<PathBuf> {
        let mut table = self.table.clone();
        table.remove("cluster");
        if let Some(listen) = table.get_mut("listen").and_then(Value::as_table_mut) {
            listen.remove("peers");
        }
        self.write("node-1", &table)
    }

    /// Writes the file of a member.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn member(&self, membership: &Membership<'_>) -> anyhow::Result<PathBuf> {
        let Membership { name, listens, seeds, identity, lease } = membership;
        let mut table = self.table.clone();
        section_of(&mut table, "node").insert("name".into(), (*name).into());
        let listen = section_of(&mut table, "listen");
        let Listens { grpc, https, metrics, peers } = listens;
        for (key, address) in [("grpc", grpc), ("https", https), ("metrics", metrics), ("peers", peers)] {
            listen.insert(key.into(), address.to_string().into());
        }
        let secret = self.secret()?;
        let cluster = section_of(&mut table, "cluster");
        cluster.insert("secret_file".into(), secret.into());
        let others = seeds.iter().filter(|seed| *seed != peers).map(|seed| Value::from(seed.to_string()));
        cluster.insert("seeds".into(), others.collect::<Vec<_>>().into());
        cluster.insert("advertise".into(), peers.to_string().into());
        cluster.insert("lease_ms".into(), i64::try_from(lease.as_millis())?.into());
        if let Some((certificate, key)) = identity {
            cluster.insert("certificate".into(), certificate.display().to_string().into());
            cluster.insert("key".into(), key.display().to_string().into());
        }
        self.write(name, &table)
    }

    /// Tells whether it names the certificate of the first node's membership already.
    pub(super) fn has_identity(&self) -> bool {
        self.table.get("cluster").and_then(|cluster| cluster.get("certificate")).is_some()
    }

    /// Returns the file of the cluster's secret, and makes it if `aesp init` did not.
    fn secret(&self) -> anyhow::Result<String> {
        let named = self.table.get("cluster").and_then(|cluster| cluster.get("secret_file"));
        let name = named.and_then(Value::as_str).unwrap_or("cluster.secret");
        let path = self.folder.join(name);
        if !path.exists() {
            let entropy = Entropy::from_system();
            let secret = HEXLOWER.encode(&[entropy.bytes(), entropy.bytes()].concat());
            fs::write(&path, format!("{secret}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(name.to_owned())
    }

    fn write(&self, name: &str, table: &Table) -> anyhow::Result<PathBuf> {
        // In the folder of the base, whose relative paths it has.
        let path = self.folder.join(format!("chaos-{name}.toml"));
        fs::write(&path, toml::to_string(table)?)?;
        Ok(path)
    }
}

fn section_of<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let section = table.entry(name).or_insert_with(|| Table::new().into());
    section.as_table_mut().expect("sections of a valid configuration are tables")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_the_base_with_its_own_name_addresses_and_seeds() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("aesp.toml"), "[store]\npath = \"lmdb:store\"\n").unwrap();
        let base = Base::read(folder.path()).unwrap();
        let listens = Listens::alone_on(Ipv4Addr::new(10, 0, 0, 2).into());
        let seeds = ["10.0.0.1:9444", "10.0.0.2:9444"].map(|seed| seed.parse().unwrap());
        let membership = Membership {
            name: "node-2",
            listens,
            seeds: &seeds,
            identity: Some(("n.pem".into(), "n.key".into())),
            lease: Duration::from_secs(2),
        };
        let path = base.member(&membership).unwrap();
        let table: Table = fs::read_to_string(path).unwrap().parse().unwrap();
        assert_eq!(table["store"]["path"].as_str(), Some("lmdb:store"));
        assert_eq!(table["node"]["name"].as_str(), Some("node-2"));
        assert_eq!(table["listen"]["peers"].as_str(), Some("10.0.0.2:9444"));
        assert_eq!(table["cluster"]["seeds"].as_array().unwrap(), &[Value::from("10.0.0.1:9444")]);
        assert_eq!(table["cluster"]["lease_ms"].as_integer(), Some(2_000));
        assert!(folder.path().join("cluster.secret").is_file());
        assert!(
            fs::read_to_string(base.lone().unwrap())
                .unwrap()
                .parse::<Table>()
                .unwrap()
                .get("cluster")
                .is_none()
        );
    }
}
