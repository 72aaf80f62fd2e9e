use aesp_call::Granted;
use aesp_merkle::Checkpoint;
use aesp_proto::{
    Error, TenantId,
    v1::{
        Anchor, GetHeadProofRequest, GetPlatformConsistencyProofRequest, GetPlatformLogRequest, HeadProof,
        ListWitnessesRequest, ListWitnessesResponse, PlatformConsistencyProof, PlatformLog,
        ResetWitnessRequest, ResetWitnessResponse, Witness, platform_log_service_server,
    },
};
use aesp_witness::{Config, WitnessRow};
use tonic::{Request, Response, Status};

use super::{Context, Entry, enter, proofs};

const PLATFORM: TenantId = TenantId::PLATFORM;

/// The platform log, its witnesses and its anchors.
pub(crate) struct PlatformLogs(pub(crate) Context);

impl PlatformLogs {
    /// Witnesses see every tenant's head: they are the platform's matter.
    async fn operator<T>(&self, entry: &Entry<T>) -> Result<Granted, Error> {
        self.0.access.permit_tenant(&entry.caller, &entry.action, PLATFORM).await
    }

    async fn platform_log(&self) -> Result<PlatformLog, Error> {
        let log = self.0.witnessing.log();
        let (note, status) = (log.checkpoint().await?, log.status().await?);
        let head = Checkpoint::glance(&note)
            .ok_or_else(|| aesp_transparency::Error::Damaged("the last checkpoint is none".into()))?;
        let keys = proofs::public_keys(&self.0).await?;
        let key = keys.last().and_then(|key| aesp_merkle::Verifier::new(&*head.origin, key.0).ok());
        Ok(PlatformLog {
            checkpoint: note,
            origin: head.origin,
            size: head.size,
            root: head.root.to_vec(),
            log_key: key.map(|key| key.to_string()).unwrap_or_default(),
            newest_size: status.head.size,
        })
    }

    async fn head_proof(&self, tenant: TenantId, size: u64) -> Result<HeadProof, Error> {
        let proof = self.0.witnessing.log().head_proof(tenant, size).await?;
        Ok(HeadProof {
            leaf: proof.leaf,
            leaf_index: proof.index,
            origin: proof.origin,
            size: proof.size,
            root: proof.root.to_vec(),
            path: proof.path.iter().map(|hash| hash.to_vec()).collect(),
            checkpoint: proof.checkpoint,
        })
    }

    async fn consistency(
        &self,
        asked: &GetPlatformConsistencyProofRequest,
    ) -> Result<PlatformConsistencyProof, Error> {
        let log = self.0.witnessing.log();
        let proof = log.consistency_of(&asked.origin, asked.from_size, asked.to_size).await?;
        Ok(PlatformConsistencyProof {
            origin: proof.origin,
            from_size: proof.from.0,
            from_root: proof.from.1.to_vec(),
            to_size: proof.to.0,
            to_root: proof.to.1.to_vec(),
            proof: proof.proof.iter().map(|hash| hash.to_vec()).collect(),
        })
    }

    async fn witnesses(&self) -> Result<ListWitnessesResponse, Error> {
        let witnessing = &self.0.witnessing;
        let status = match witnessing.log().status().await {
            Ok(status) => Some(status),
            Err(aesp_transparency::Error::Empty) => None,
            Err(error) => return Err(error.into()),
        };
        let head = status.as_ref().map(|status| &status.head);
        let quorate = status.as_ref().and_then(|status| Checkpoint::glance(status.quorate.as_deref()?));
        let (rows, anchor) = witnessing.known().await?;
        let (configs, quorum) = witnessing.configured();
        Ok(ListWitnessesResponse {
            witnesses: configs.iter().zip(rows).map(|(config, row)| describe(config, row, head)).collect(),
            quorum: u32::try_from(quorum).unwrap_or(u32::MAX),
            anchor: anchor.map(|anchor| Anchor {
                origin: anchor.origin,
                size: anchor.size,
                anchored_at_ms: anchor.at.0,
                object: anchor.object,
            }),
            size: head.map_or(0, |head| head.size),
            cosigned_size: quorate.map_or(0, |head| head.size),
        })
    }
}

fn describe(config: &Config, row: WitnessRow, head: Option<&Checkpoint>) -> Witness {
    let behind = head.map_or(0, |head| head.size.saturating_sub(row.seen(&head.origin)));
    Witness {
        name: config.name.clone(),
        url: config.url.clone(),
        key: config.key.clone(),
        origin: row.origin,
        size: row.size,
        cosigned_at_ms: row.at.0,
        behind,
        cause: row.cause,
        trouble: row.trouble,
        since_ms: row.since.0,
        contradiction: row.contradiction.unwrap_or_default(),
        refused: row.refused,
    }
}

#[tonic::async_trait]
impl platform_log_service_server::PlatformLogService for PlatformLogs {
    async fn get_platform_log(
        &self,
        request: Request<GetPlatformLogRequest>,
    ) -> Result<Response<PlatformLog>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let log = self.platform_log().await;
        Ok(Response::new(proofs::read(&self.0, &granted, "platform log", log).await?))
    }

    async fn get_head_proof(
        &self,
        request: Request<GetHeadProofRequest>,
    ) -> Result<Response<HeadProof>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let proof = self.head_proof(granted.tenant(), entry.message.size).await;
        Ok(Response::new(proofs::read(&self.0, &granted, "platform log head proof", proof).await?))
    }

    async fn get_platform_consistency_proof(
        &self,
        request: Request<GetPlatformConsistencyProofRequest>,
    ) -> Result<Response<PlatformConsistencyProof>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let proof = self.consistency(&entry.message).await;
        Ok(Response::new(proofs::read(&self.0, &granted, "platform log consistency proof", proof).await?))
    }

    async fn list_witnesses(
        &self,
        request: Request<ListWitnessesRequest>,
    ) -> Result<Response<ListWitnessesResponse>, Status> {
        let granted = self.operator(&enter(request)?).await?;
        let found = self.witnesses().await;
        Ok(Response::new(proofs::read(&self.0, &granted, "witnesses", found).await?))
    }

    async fn reset_witness(
        &self,
        request: Request<ResetWitnessRequest>,
    ) -> Result<Response<ResetWitnessResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.operator(&entry).await?;
        let (name, witnessing) = (entry.message.name, self.0.witnessing.clone());
        let reset = self.0.commit(&granted, format!("witness:{name}"), move |tx| {
            let (name, witnessing) = (name.clone(), witnessing.clone());
            Box::pin(async move { Ok(witnessing.reset(tx, &name).await?) })
        });
        reset.await?;
        Ok(Response::new(ResetWitnessResponse {}))
    }
}
