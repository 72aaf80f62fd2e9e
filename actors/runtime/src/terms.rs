use std::sync::Arc;

use aesp_proto::{
    Error, ErrorCode, TenantId,
    v1::{AnnounceRuntime, ComplianceLevel},
};

use crate::{Directory, PeerIdentity, Registration};

/// The version of the protocol that the Host speaks.
pub(crate) const VERSION: &str = "1.0";
/// What both sides may agree on beyond the protocol's core.
pub(crate) const FEATURES: [&str; 3] = ["streaming", "redelivery", "drain"];
/// The most calls that one connection may have outstanding.
pub(crate) const MAX_CREDITS: u32 = 4096;
/// Where a Runtime says which process it is, among the metadata of its announcement.
const INSTANCE: &str = "instance";

/// What a connection may do: its announcement, as far as its registration bears it out.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) registration: Arc<Registration>,
    /// The tenants served: all registered, or the one that was claimed.
    pub(crate) tenants: Vec<TenantId>,
    claimed: Option<TenantId>,
    pub(crate) zone: String,
    pub(crate) instance: Option<String>,
    pub(crate) language: String,
    pub(crate) version: String,
    pub(crate) level: ComplianceLevel,
    pub(crate) features: Vec<String>,
    pub(crate) credits: u32,
}

impl Terms {
    /// Checks an announcement: all that it says is a claim.
    ///
    /// # Errors
    /// The refusal that the Runtime hears.
    pub(crate) fn agree(
        announce: AnnounceRuntime,
        peer: &PeerIdentity,
        directory: &dyn Directory,
    ) -> Result<Self, Error> {
        speaks(&announce)?;
        let level = ComplianceLevel::try_from(announce.compliance_level)
            .map_err(|_| Error::invalid("compliance_level is not a known level"))?;
        if !(1..=MAX_CREDITS).contains(&announce.initial_credits) {
            return Err(Error::invalid(format!("initial_credits must be 1 to {MAX_CREDITS}")));
        }
        let registration = directory
            .registration(&announce.runtime_id)
            .filter(|registration| peer.is(&registration.certificate_identity))
            .ok_or_else(|| unregistered(&announce.runtime_id))?;
        let claimed = if announce.tenant_id.is_empty() {
            None
        } else {
            Some(directory.tenant(&announce.tenant_id).ok_or_else(|| not_of_tenant(&announce.tenant_id))?)
        };
        let tenants = served(&registration, claimed).ok_or_else(|| not_of_tenant(&announce.tenant_id))?;
        let zone = zone(&registration, announce.security_zone)?;
        let wanted = announce.optional_features;
        let features = FEATURES.iter().filter(|name| wanted.iter().any(|w| w == *name));
        Ok(Self {
            tenants,
            claimed,
            zone,
            instance: announce.metadata.get(INSTANCE).filter(|text| !text.is_empty()).cloned(),
            language: short(announce.language),
            version: short(announce.version),
            level,
            features: features.map(ToString::to_string).collect(),
            credits: announce.initial_credits,
            registration,
        })
    }

    /// Checks the terms against the directory of now, and returns what is left of them.
    ///
    /// # Errors
    /// Why the connection must end.
    pub(crate) fn renew(&self, directory: &dyn Directory) -> Result<Self, Error> {
        let runtime_id = &self.registration.runtime_id;
        let registration = directory
            .registration(runtime_id)
            .filter(|now| now.certificate_identity == self.registration.certificate_identity)
            .ok_or_else(|| unregistered(runtime_id))?;
        let tenants = served(&registration, self.claimed).ok_or_else(|| {
            Error::new(ErrorCode::TenantAccessDenied, "the Runtime's tenant was taken from it")
        })?;
        zone(&registration, self.zone.clone())?;
        Ok(Self { registration, tenants, ..self.clone() })
    }
}

fn served(registration: &Registration, claimed: Option<TenantId>) -> Option<Vec<TenantId>> {
    match claimed {
        None => Some(registration.tenants.clone()).filter(|tenants| !tenants.is_empty()),
        Some(tenant) => registration.tenants.contains(&tenant).then(|| vec![tenant]),
    }
}

/// A Runtime is in one zone: that which it claims, or the only one that it is registered for.
fn zone(registration: &Registration, claimed: String) -> Result<String, Error> {
    let zones = &registration.zones;
    match (claimed.is_empty(), zones.as_slice()) {
        (true, []) => Ok(claimed),
        (true, [only]) => Ok(only.clone()),
        (true, _) => {
            Err(Error::invalid("security_zone must name one of the zones that the Runtime is registered for"))
        }
        (false, zones) if zones.contains(&claimed) => Ok(claimed),
        (false, _) => Err(Error::new(
            ErrorCode::PermissionDenied,
            format!("the Runtime is not registered for the security zone {}", short(claimed)),
        )),
    }
}

/// Versions with the same first number are compatible.
fn speaks(announce: &AnnounceRuntime) -> Result<(), Error> {
    let offered = std::iter::once(&announce.protocol_version).chain(&announce.supported_versions);
    if offered.clone().any(|version| version == "1" || version.starts_with("1.")) {
        return Ok(());
    }
    let offered: Vec<_> = offered.take(8).map(|version| short(version.clone())).collect();
    Err(Error::invalid(format!("the Host speaks protocol version {VERSION}; the Runtime offers {offered:?}")))
}

fn unregistered(runtime_id: &str) -> Error {
    let text = format!("the certificate is not registered as the Runtime {:?}", short(runtime_id.to_owned()));
    Error::new(ErrorCode::PermissionDenied, text)
        .remedy("have an administrator register it: aesp runtime register --help")
}

fn not_of_tenant(claim: &str) -> Error {
    let text = format!("the Runtime is not registered for the tenant {:?}", short(claim.to_owned()));
    Error::new(ErrorCode::TenantAccessDenied, text)
}

/// Cuts what a Runtime says about itself to what fits in a list and a log line.
pub(crate) fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(128) {
        text.truncate(end);
    }
    text
}
