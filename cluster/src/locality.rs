use serde::{Deserialize, Serialize};

/// Where a node runs: what it shares the fate of, and what it is close to. Nodes say it of themselves in their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// The data centre or region; empty if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub datacenter: String,
    /// The part of the data centre that fails as one: a rack, a hall, an availability zone; empty if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// How far two nodes are apart, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// In the same zone of the same data centre.
    Zone,
    /// In the same data centre.
    Datacenter,
    /// In different ones, or nobody knows.
    Far,
}

impl Locality {
    pub(crate) fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Returns how far another node is. Zones of different data centres are different ones, whatever their names; without a data
    /// centre all zones are of one.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        if self.datacenter != other.datacenter {
            Distance::Far
        } else if !self.zone.is_empty() && self.zone == other.zone {
            Distance::Zone
        } else if self.datacenter.is_empty() {
            Distance::Far
        } else {
            Distance::Datacenter
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(datacenter: &str, zone: &str) -> Locality {
        Locality { datacenter: datacenter.into(), zone: zone.into() }
    }

    #[test]
    fn what_is_known_to_be_shared_is_near() {
        assert_eq!(at("dc1", "a").distance(&at("dc1", "a")), Distance::Zone);
        assert_eq!(at("", "a").distance(&at("", "a")), Distance::Zone);
        assert_eq!(at("dc1", "a").distance(&at("dc1", "b")), Distance::Datacenter);
        assert_eq!(at("dc1", "").distance(&at("dc1", "")), Distance::Datacenter);
        assert!(Distance::Zone < Distance::Datacenter && Distance::Datacenter < Distance::Far);
    }

    #[test]
    fn what_nobody_knows_is_far() {
        assert_eq!(at("", "").distance(&at("", "")), Distance::Far);
        assert_eq!(at("", "a").distance(&at("", "b")), Distance::Far);
        assert_eq!(at("dc1", "a").distance(&at("dc2", "a")), Distance::Far);
        assert_eq!(at("dc1", "a").distance(&at("", "a")), Distance::Far);
    }
}
