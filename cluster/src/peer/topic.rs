/// What a request or a tell is about; each is answered by one part of the Host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// An agent's request, for the owner of what it is about.
    Forward,
    /// A tool call, for the node where the Runtime is connected.
    Dispatch,
    /// Fulfilment tables.
    Runtimes,
    /// Changes that were committed, and that they were applied.
    Changes,
    /// Leases on a tenant's limits.
    Quotas,
    /// Shards that change their owner.
    Handover,
}

impl Topic {
    /// Every topic with its number on the wire. Append only; a number is never used again.
    const NUMBERS: [(Self, u32); 6] = [
        (Self::Forward, 1),
        (Self::Dispatch, 2),
        (Self::Runtimes, 3),
        (Self::Changes, 4),
        (Self::Quotas, 5),
        (Self::Handover, 6),
    ];

    pub(crate) fn number(self) -> u32 {
        Self::NUMBERS.iter().find(|(topic, _)| *topic == self).map_or(0, |(_, number)| *number)
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::NUMBERS.iter().find(|(_, known)| *known == number).map(|(topic, _)| *topic)
    }

    /// Returns its name, for labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Dispatch => "dispatch",
            Self::Runtimes => "runtimes",
            Self::Changes => "changes",
            Self::Quotas => "quotas",
            Self::Handover => "handover",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_what_they_are() {
        let numbers: Vec<_> = Topic::NUMBERS.iter().map(|(topic, number)| (topic.name(), *number)).collect();
        let pinned = [
            ("forward", 1),
            ("dispatch", 2),
            ("runtimes", 3),
            ("changes", 4),
            ("quotas", 5),
            ("handover", 6),
        ];
        assert_eq!(numbers, pinned);
        assert!(Topic::NUMBERS.iter().all(|(topic, number)| Topic::from_number(*number) == Some(*topic)));
        assert_eq!(Topic::from_number(0), None);
    }
}
