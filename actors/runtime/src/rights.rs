use aesp_proto::Revision;

/// The revisions of the rights that something was decided by. Whoever sends a call to a Runtime compares them with what it has
/// applied itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Of the tenant's own rights.
    pub tenant: Revision,
    /// Of the platform's, which reach into every tenant.
    pub platform: Revision,
}

impl Rights {
    /// Tells whether nothing that `applied` knows of is missing here.
    #[must_use]
    pub fn cover(&self, applied: &Self) -> bool {
        self.tenant >= applied.tenant && self.platform >= applied.platform
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_either_side_makes_a_decision_old() {
        let rights = |tenant, platform| Rights { tenant: Revision(tenant), platform: Revision(platform) };
        assert!(rights(3, 5).cover(&rights(3, 5)));
        assert!(rights(4, 5).cover(&rights(3, 5)), "this node is behind, and that does no harm");
        assert!(!rights(3, 5).cover(&rights(4, 5)));
        assert!(!rights(9, 5).cover(&rights(3, 6)));
    }
}
