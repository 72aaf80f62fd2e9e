//! A directory that tests change, and the frames and calls they use.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_proto::{
    DispatchId, SessionId, TenantId, Timestamp,
    v1::{
        AnnounceRuntime, ContractDraft, ContractReference, FulfillTools, FunctionResult, ResultStatus,
        StreamChunk, ToolResult,
    },
};
use bytes::Bytes;
use tokio::time::Instant;

use crate::{Directory, Dispatch, PeerIdentity, Priority, Registration, RemainingLease, Rights};

pub(crate) const IDENTITY: &str = "spiffe://acme/git";

pub(crate) fn tenant(n: u8) -> TenantId {
    TenantId::from_bytes([n; 16])
}

pub(crate) struct FakeDirectory(Mutex<Inner>);

pub(crate) struct Inner {
    pub(crate) registration: Option<Registration>,
    pub(crate) active: String,
    pub(crate) retired: HashSet<String>,
    pub(crate) development: bool,
    /// What the node has applied.
    pub(crate) rights: Rights,
}

impl FakeDirectory {
    pub(crate) fn new() -> Arc<Self> {
        let registration = Registration {
            runtime_id: "git".to_owned(),
            certificate_identity: IDENTITY.to_owned(),
            tenants: (1..=4).map(tenant).collect(),
            contracts: vec!["git_log".to_owned(), "git_show".to_owned()],
            zones: vec!["inner".to_owned()],
            created_at: Timestamp(0),
            revoked: false,
        };
        Arc::new(Self(Mutex::new(Inner {
            registration: Some(registration),
            active: "1.0.0".to_owned(),
            retired: HashSet::new(),
            development: false,
            rights: Rights::default(),
        })))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.0.lock().expect("nobody panics while it is held"));
    }
}

impl Directory for FakeDirectory {
    fn registration(&self, runtime_id: &str) -> Option<Arc<Registration>> {
        let inner = self.0.lock().expect("nobody panics while it is held");
        inner.registration.clone().filter(|found| found.runtime_id == runtime_id).map(Arc::new)
    }

    fn tenant(&self, id_or_name: &str) -> Option<TenantId> {
        id_or_name.parse().ok()
    }

    fn contract(&self, _: TenantId, name: &str, version: Option<&str>) -> Result<ContractReference, String> {
        let inner = self.0.lock().expect("nobody panics while it is held");
        if inner.retired.contains(name) {
            return Err("the contract was retired".to_owned());
        }
        let version = version.unwrap_or(&inner.active).to_owned();
        Ok(ContractReference { name: name.to_owned(), version, digest: vec![0; 32] })
    }

    fn rights(&self, _: TenantId) -> Option<Rights> {
        Some(self.0.lock().expect("nobody panics while it is held").rights)
    }

    fn contracts(&self, tenant: TenantId) -> Vec<ContractReference> {
        self.contract(tenant, "git_log", None).into_iter().collect()
    }

    fn development(&self, _: TenantId) -> bool {
        self.0.lock().expect("nobody panics while it is held").development
    }

    fn check_draft(&self, _: TenantId, _: SessionId, draft: &ContractDraft) -> Result<(), String> {
        if draft.parameters_json.is_empty() { Err("no schema".to_owned()) } else { Ok(()) }
    }
}

/// A lease that is held.
pub(crate) fn lease() -> RemainingLease {
    Arc::new(|| Duration::from_secs(2))
}

pub(crate) fn peer() -> PeerIdentity {
    PeerIdentity { identities: vec![IDENTITY.to_owned()], address: None }
}

pub(crate) fn announcement(credits: u32) -> AnnounceRuntime {
    AnnounceRuntime {
        runtime_id: "git".to_owned(),
        protocol_version: "1.0".to_owned(),
        security_zone: "inner".to_owned(),
        initial_credits: credits,
        metadata: [("instance".to_owned(), "one".to_owned())].into(),
        ..AnnounceRuntime::default()
    }
}

pub(crate) fn fulfil(names: &[&str]) -> FulfillTools {
    FulfillTools { tool_names: names.iter().map(ToString::to_string).collect(), ..FulfillTools::default() }
}

pub(crate) fn dispatch_id(n: u64) -> DispatchId {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    DispatchId::from_bytes(bytes)
}

pub(crate) fn dispatch(n: u64, of: u8) -> Dispatch {
    Dispatch {
        id: dispatch_id(n),
        tenant: tenant(of),
        session: SessionId::from_bytes([9; 16]),
        invocation_id: format!("call-{n}"),
        correlation_id: String::new(),
        name: "git_log".into(),
        version: "1.0.0".into(),
        args: Bytes::from_static(b"{}"),
        deadline: Instant::now() + Duration::from_secs(3600),
        streaming: false,
        depth: 0,
        priority: Priority::Normal,
        development: false,
        rights: Rights::default(),
    }
}

pub(crate) fn result(id: DispatchId, content: &[u8]) -> ToolResult {
    let result = FunctionResult {
        status: ResultStatus::Success.into(),
        content_json: Bytes::copy_from_slice(content),
        ..FunctionResult::default()
    };
    ToolResult { dispatch_id: id.as_bytes().to_vec(), result: Some(result), ..ToolResult::default() }
}

pub(crate) fn chunk(id: DispatchId, number: u64, is_final: bool) -> StreamChunk {
    StreamChunk {
        chunk_id: number,
        payload: b"1".to_vec(),
        is_final,
        dispatch_id: id.as_bytes().to_vec(),
        ..StreamChunk::default()
    }
}
