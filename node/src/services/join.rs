use std::{net::IpAddr, sync::Arc, time::Duration};

use aesp_audit::{Event, Refused};
use aesp_call::Source;
use aesp_identity::{Invitation, JoinState, JoinToken, Wanted};
use aesp_proto::{
    Error, ErrorCode, TenantId, TokenId,
    v1::{
        self, CreateJoinTokenRequest, CreateJoinTokenResponse, EventType, GetClusterAuthoritiesResponse,
        JoinClusterRequest, JoinClusterResponse, ListJoinTokensRequest, ListJoinTokensResponse, Outcome,
        RevokeJoinTokenRequest, RevokeJoinTokenResponse,
    },
};

use super::{Entry, cluster::Nodes};
use crate::{
    init::{self, SigningRequest},
    joining::Door,
};

const ACTION: &str = "cluster.join";
const USUAL_LIFE: Duration = Duration::from_secs(15 * 60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3_600);
const MOST_HOSTS: usize = 16;

/// An attempt to join that came to nothing: a constant for records and labels, and what the machine hears.
struct Refusal {
    reason: &'static str,
    error: Error,
}

impl Refusal {
    fn because(reason: &'static str) -> impl Fn(Error) -> Self {
        move |error| Self { reason, error }
    }
}

impl Nodes {
    pub(super) async fn create_token(
        &self,
        entry: Entry<CreateJoinTokenRequest>,
    ) -> Result<CreateJoinTokenResponse, Error> {
        const RESOURCE: &str = "join-token";
        let context = &self.0;
        let granted = context.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let wanted = wanted(entry.message, granted.caller().principal_id());
        let wanted = context.checked(&granted, RESOURCE, wanted).await?;
        // A token that can't be used here is of no use.
        let signer = with(&context.door, Door::signer).await;
        let ca_fingerprint = context.checked(&granted, RESOURCE, signer).await?;
        let (entropy, now, template) =
            (context.entropy.clone(), context.clock.now(), granted.changed(RESOURCE));
        let made = context.recorder.record(move |tx| {
            let (wanted, entropy, mut events) = (wanted.clone(), entropy.clone(), template.clone());
            Box::pin(async move {
                let (token, invitation) =
                    aesp_identity::create_join_token(tx, &wanted, &entropy, now).await?;
                for event in &mut events {
                    event.details.resource = format!("join-token:{}", token.id());
                    let node = invitation.node.clone().unwrap_or_default();
                    event.details.fields.push(("node".into(), node));
                }
                Ok::<_, Error>(((token, invitation), events))
            })
        });
        let (token, invitation) = context.checked(&granted, RESOURCE, made.await).await?;
        Ok(CreateJoinTokenResponse {
            join_token: token.reveal().to_string(),
            token: Some(self.wire_token(token.id(), invitation)),
            ca_fingerprint,
        })
    }

    pub(super) async fn list_tokens(
        &self,
        entry: Entry<ListJoinTokensRequest>,
    ) -> Result<ListJoinTokensResponse, Error> {
        let context = &self.0;
        let granted = context.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let found = context.read(&granted, "join-tokens".into(), |tx| {
            Box::pin(async move { Ok(aesp_identity::list_join_tokens(tx).await?) })
        });
        let mut tokens: Vec<_> =
            found.await?.into_iter().map(|(id, invitation)| self.wire_token(id, invitation)).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.created_at_ms));
        Ok(ListJoinTokensResponse { tokens })
    }

    pub(super) async fn revoke_token(
        &self,
        entry: Entry<RevokeJoinTokenRequest>,
    ) -> Result<RevokeJoinTokenResponse, Error> {
        let context = &self.0;
        let granted = context.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let named = entry.message.token_id.parse::<TokenId>();
        let named = named.map_err(|_| Error::invalid("token_id is not the id of a token"));
        let id = context.checked(&granted, "join-token", named).await?;
        let revoked = context.commit(&granted, format!("join-token:{id}"), move |tx| {
            Box::pin(async move { Ok(aesp_identity::revoke_join_token(tx, id).await?) })
        });
        revoked.await?;
        Ok(RevokeJoinTokenResponse {})
    }

    pub(super) async fn authorities(&self) -> Result<GetClusterAuthoritiesResponse, Error> {
        Ok(GetClusterAuthoritiesResponse { authorities: with(&self.0.door, Door::authorities).await? })
    }

    /// Lets a machine in, or counts why not: strangers can't fill the log.
    pub(super) async fn join(
        &self,
        source: &Source,
        request: JoinClusterRequest,
    ) -> Result<JoinClusterResponse, Error> {
        match self.let_in(source, request).await {
            Ok(answer) => {
                self.0.door.count("joined");
                Ok(answer)
            }
            Err(Refusal { reason, error }) => {
                self.0.door.count(reason);
                self.0.recorder.observe_refused(Refused {
                    source_ip: source.ip,
                    action: ACTION.into(),
                    reason: reason.into(),
                    tenant: None,
                });
                Err(error.correlated(&source.correlation_id))
            }
        }
    }

    async fn let_in(
        &self,
        source: &Source,
        request: JoinClusterRequest,
    ) -> Result<JoinClusterResponse, Refusal> {
        let (context, now) = (&self.0, self.0.clock.now());
        context.door.admit(source.ip).map_err(Refusal::because("rate_limited"))?;
        if !context.cluster.lease().is_held() {
            let error = Error::new(ErrorCode::ServiceUnavailable, "this node has no place in its cluster");
            return Err(Refusal { reason: "no_lease", error: error.remedy("ask another node") });
        }
        let JoinClusterRequest { join_token, node, certificate_request } = request;
        let token: JoinToken = join_token
            .parse()
            .map_err(|error| Refusal::because("malformed_token")(aesp_identity::Error::from(error).into()))?;
        // Nothing is told to somebody without a token but that it is none.
        let invitation = self.invitation(&token, &node).await?;
        node_name(&node).map_err(Refusal::because("bad_name"))?;
        let request = SigningRequest::read(&certificate_request).map_err(|error| {
            let error = Error::invalid(error.to_string())
                .remedy("send PKCS#10 in DER, signed with the node's own key");
            Refusal { reason: "bad_request", error }
        })?;
        let nodes =
            context.cluster.status().await.map_err(|error| Refusal::because("store")(error.into()))?;
        if nodes.iter().any(|living| living.name == node) {
            let error = Error::new(ErrorCode::StateConflict, "a node of this name lives")
                .remedy("choose another name, or stop that node first: aesp cluster status");
            return Err(Refusal { reason: "name_taken", error });
        }
        let seeds = nodes.into_iter().map(|node| node.endpoint).filter(|seed| !seed.is_empty()).collect();

        let (name, hosts) = (node.clone(), invitation.hosts.clone());
        let id = context.cluster.id().to_owned();
        let given = with(&context.door, move |door| {
            Ok((door.sign(request, &name, &hosts, now)?, door.gives(&id, seeds)?))
        });
        let (signed, answer) = given.await.map_err(Refusal::because("no_authority"))?;
        self.use_up(source, token, node, &signed).await?;
        Ok(JoinClusterResponse {
            certificate_pem: signed.pem,
            serial: signed.serial,
            identity: signed.identity,
            ..answer
        })
    }

    /// Tells what the token is good for, without using it.
    async fn invitation(&self, token: &JoinToken, node: &str) -> Result<Invitation, Refusal> {
        let (token, node, now) = (token.clone(), node.to_owned(), self.0.clock.now());
        let found = self.0.store.run(move |tx| {
            let (token, node) = (token.clone(), node.clone());
            Box::pin(async move { aesp_identity::find_join_token(tx, &token, &node, now).await })
        });
        found.await.map_err(|error| {
            let reason = match &error {
                aesp_identity::Error::Join(refusal) => refusal.name(),
                _ => "store",
            };
            Refusal { reason, error: error.into() }
        })
    }

    /// Uses the token up and puts on record who has joined with it, in one commit: only then the certificate is handed out.
    async fn use_up(
        &self,
        source: &Source,
        token: JoinToken,
        node: String,
        signed: &init::Signed,
    ) -> Result<(), Refusal> {
        let (now, serial) = (self.0.clock.now(), signed.serial.clone());
        let kind = EventType::Authentication;
        let mut event = Event::new(&self.0.entropy, TenantId::PLATFORM, kind, ACTION, Outcome::Success);
        event.details.resource = format!("node:{node}");
        event.details.source_ip = source.ip.map(|ip: IpAddr| ip.to_string()).unwrap_or_default();
        event.details.user_agent.clone_from(&source.user_agent);
        event.details.correlation_id.clone_from(&source.correlation_id);
        event.details.fields =
            vec![("token".into(), token.id().to_string()), ("serial".into(), serial.clone())];
        let used = self.0.recorder.record(move |tx| {
            let (token, node, serial) = (token.clone(), node.clone(), serial.clone());
            let mut event = event.clone();
            Box::pin(async move {
                let used = aesp_identity::use_join_token(tx, &token, &node, &serial, now).await?;
                event.details.fields.push(("invited_by".into(), used.created_by.to_string()));
                Ok::<_, Error>(((), vec![event]))
            })
        });
        used.await.map_err(|error| {
            // Of two that come with one token at once, one is late.
            let reason = if error.code() == ErrorCode::StateConflict {
                "used_token"
            } else {
                error.code().as_str_name()
            };
            Refusal { reason, error }
        })
    }

    fn wire_token(&self, id: TokenId, invitation: Invitation) -> v1::JoinToken {
        let open = invitation.is_open(self.0.clock.now());
        let (state, used_by, serial) = match invitation.state {
            JoinState::Open if open => ("open", String::new(), String::new()),
            JoinState::Open => ("expired", String::new(), String::new()),
            JoinState::Revoked => ("revoked", String::new(), String::new()),
            JoinState::Used { node, serial } => ("used", node, serial),
        };
        v1::JoinToken {
            token_id: id.to_string(),
            node: invitation.node.unwrap_or_default(),
            hosts: invitation.hosts,
            created_by: invitation.created_by.to_string(),
            created_at_ms: invitation.created_at.0,
            expires_at_ms: invitation.expires_at.0,
            state: state.into(),
            used_by,
            serial,
        }
    }
}

/// Lets the door do what reads files, away from the threads that serve.
async fn with<T: Send + 'static>(
    door: &Arc<Door>,
    what: impl FnOnce(&Door) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let door = Arc::clone(door);
    tokio::task::spawn_blocking(move || what(&door)).await.map_err(Error::internal)?
}

fn wanted(request: CreateJoinTokenRequest, created_by: aesp_proto::PrincipalId) -> Result<Wanted, Error> {
    let CreateJoinTokenRequest { node, hosts, ttl_seconds } = request;
    let life = match ttl_seconds {
        0 => USUAL_LIFE,
        seconds => Duration::from_secs(seconds.into()),
    };
    if life > LONGEST_LIFE {
        return Err(
            Error::invalid("ttl_seconds is above 86400").remedy("a join token lives for a day at most")
        );
    }
    if !node.is_empty() {
        node_name(&node)?;
    }
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    let host = |host: &String| (1..=253).contains(&host.len()) && host.chars().all(ordinary);
    if hosts.len() > MOST_HOSTS || !hosts.iter().all(host) {
        return Err(Error::invalid("hosts are up to 16 names or addresses, without wildcards"));
    }
    Ok(Wanted { node: (!node.is_empty()).then_some(node), hosts, created_by, life })
}

/// Checks the name of a node, which stands in its certificate and in paths.
fn node_name(name: &str) -> Result<(), Error> {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=63).contains(&name.len()) && name.chars().all(ordinary) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::invalid("a node's name is 1 to 63 letters, digits, `-`, `_` or `.`, and begins with no dot"))
}
