use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

/// Returns the encoded `FileDescriptorSet` of `aesp.v1`, for reflection and for [`Operations`].
#[must_use]
pub fn descriptor_set() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"))
}

/// Who may reach an RPC at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Needs authentication and a permit for the action.
    Authorized,
    /// Comes before authentication.
    Public,
    /// Needs the certificate of a registered Runtime.
    Runtime,
    /// Needs the certificate of a node, on the peers' own listener.
    Peer,
}

/// What an RPC's caller must be permitted to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The Cedar action id, for example `tenant.create`.
    pub action: String,
    /// Who may reach it.
    pub access: Access,
}

/// The operation of every RPC, by its path (`/aesp.v1.AgentService/Invoke`), as the descriptors declare it.
#[derive(Clone, Debug)]
pub struct Operations(BTreeMap<String, Operation>);

impl Operations {
    /// Reads the declarations.
    ///
    /// # Panics
    /// If an RPC declares none: such a build must not serve.
    #[must_use]
    pub fn load() -> Self {
        let pool = DescriptorPool::decode(descriptor_set()).expect("descriptors were made by the build");
        let mut by_path = BTreeMap::new();
        for service in pool.services().filter(|s| s.package_name() == "aesp.v1") {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let operation =
                    declared(&pool, &method).unwrap_or_else(|| panic!("{path} declares no operation"));
                by_path.insert(path, operation);
            }
        }
        Self(by_path)
    }

    /// Returns the operation of the RPC at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Operation> {
        self.0.get(path)
    }

    /// Returns every path with its operation, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Operation)> {
        self.0.iter().map(|(path, operation)| (path.as_str(), operation))
    }
}

fn declared(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<Operation> {
    let extension = pool.get_extension_by_name("aesp.v1.operation")?;
    let options = method.options();
    let value = options.get_extension(&extension);
    let message = value.as_message()?;
    let action = message.get_field_by_name("action")?.as_str()?.to_owned();
    if action.is_empty() {
        return None;
    }
    let access = match message.get_field_by_name("access")?.as_ref() {
        Value::EnumNumber(0) => Access::Authorized,
        Value::EnumNumber(1) => Access::Public,
        Value::EnumNumber(2) => Access::Runtime,
        Value::EnumNumber(3) => Access::Peer,
        _ => return None,
    };
    Some(Operation { action, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_declares_its_operation() {
        let operations = Operations::load();
        assert!(operations.iter().count() > 60);
        let invoke = operations.get("/aesp.v1.AgentService/Invoke").expect("exists");
        assert_eq!(invoke, &Operation { action: "tool.invoke".into(), access: Access::Authorized });
        let public: Vec<_> = operations.iter().filter(|(_, o)| o.access == Access::Public).collect();
        assert_eq!(
            public.len(),
            6,
            "only login, refresh, keys and joining come before authentication: {public:?}"
        );
        let peers: Vec<_> =
            operations.iter().filter(|(_, o)| o.access == Access::Peer).map(|(p, _)| p).collect();
        assert_eq!(peers, ["/aesp.v1.PeerService/Link"]);
    }
}
