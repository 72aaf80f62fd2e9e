use std::time::Duration;

use aesp_proto::{Entropy, ErrorCode, PrincipalId, TenantId, Timestamp, TokenId};
use aesp_storage::{Scan, Transaction};
use serde::{Deserialize, Serialize};

use crate::{Error, JoinToken, Secret, fingerprint::Fingerprint, rows::JoinTokenRow};

const PLATFORM: TenantId = TenantId::PLATFORM;
/// How long the end of a token can be looked up.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Tokens that may be open at once.
const MOST: usize = 100;

/// What a join token is to be good for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The only name that may join with it; none for any.
    pub node: Option<String>,
    /// Names and addresses for the node's certificate.
    pub hosts: Vec<String>,
    /// Who makes it.
    pub created_by: PrincipalId,
    /// For how long it may be used.
    pub life: Duration,
}

/// A join token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The only name that may join with it; none for any.
    pub node: Option<String>,
    /// Names and addresses for the node's certificate.
    pub hosts: Vec<String>,
    /// Who made it.
    pub created_by: PrincipalId,
    /// When.
    pub created_at: Timestamp,
    /// Until when it may be used.
    pub expires_at: Timestamp,
    /// What became of it.
    pub state: JoinState,
}

/// What became of a join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinState {
    /// Nobody has used it.
    Open,
    /// A node has its certificate by it.
    Used {
        /// The node's name.
        node: String,
        /// The certificate's serial number, hexadecimal.
        serial: String,
    },
    /// An operator took it back.
    Revoked,
}

/// Why nobody joins with a token. Only who has its secret hears more than that it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum JoinRefusal {
    /// No such token, or another secret.
    #[error("the join token is not valid")]
    Unknown,
    /// Its time is over.
    #[error("the join token has expired")]
    Expired,
    /// Somebody has joined with it: if that was not this node, somebody else had it.
    #[error("the join token was used before")]
    Used,
    /// An operator took it back.
    #[error("the join token was revoked")]
    Revoked,
    /// It was made for a node of another name.
    #[error("the join token is for a node of another name")]
    OtherNode,
}

impl JoinRefusal {
    /// Returns the stable code for the client.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::InvalidCredentials,
            Self::Expired | Self::Revoked => ErrorCode::AuthenticationFailed,
            Self::Used => ErrorCode::StateConflict,
            Self::OtherNode => ErrorCode::PermissionDenied,
        }
    }

    /// Returns its name, for records and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_token",
            Self::Expired => "expired_token",
            Self::Used => "used_token",
            Self::Revoked => "revoked_token",
            Self::OtherNode => "other_node",
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Unknown => "copy the token again, or have another one made: aesp cluster join-token",
            Self::Expired | Self::Revoked => "have another one made: aesp cluster join-token",
            Self::Used => {
                "have another one made: aesp cluster join-token; if you have not joined with it, see in the audit log who did: aesp audit query --action cluster.join"
            }
            Self::OtherNode => "join under the name that the token was made for, or have another one made",
        }
    }
}

/// Makes a token with which one node may join. Tokens whose end is a day ago are cleared away.
///
/// # Errors
/// [`Error::TooManyJoinTokens`] above 100 open ones; [`Error::Cryptography`]; the store's.
pub async fn create_join_token(
    tx: &Transaction,
    wanted: &Wanted,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<(JoinToken, Invitation), Error> {
    let mut open = 0;
    for (id, row) in tx.scan::<JoinTokenRow>(PLATFORM, Scan::default()).await? {
        if row.invitation.expires_at.plus(KEPT) < now {
            tx.delete::<JoinTokenRow>(PLATFORM, &id).await?;
        } else if row.invitation.is_open(now) {
            open += 1;
        }
    }
    if open >= MOST {
        return Err(Error::TooManyJoinTokens);
    }
    let token = JoinToken::new(PLATFORM, TokenId::random(entropy), Secret::generate()?);
    let invitation = Invitation {
        node: wanted.node.clone(),
        hosts: wanted.hosts.clone(),
        created_by: wanted.created_by,
        created_at: now,
        expires_at: now.plus(wanted.life),
        state: JoinState::Open,
    };
    let fingerprint = Fingerprint::of(&*tx.tenant_keys(PLATFORM).await?, &token);
    let row = JoinTokenRow { fingerprint, invitation: invitation.clone() };
    tx.put(PLATFORM, &token.id(), &row).await?;
    Ok((token, invitation))
}

/// Returns the join tokens that are open, and those that ended within a day.
///
/// # Errors
/// The store's.
pub async fn list_join_tokens(tx: &Transaction) -> Result<Vec<(TokenId, Invitation)>, Error> {
    let rows = tx.scan::<JoinTokenRow>(PLATFORM, Scan::default()).await?;
    Ok(rows.into_iter().map(|(id, row)| (id, row.invitation)).collect())
}

/// Takes a join token back; returns whether it was open.
///
/// # Errors
/// [`Error::NotFound`]; the store's.
pub async fn revoke_join_token(tx: &Transaction, id: TokenId) -> Result<bool, Error> {
    tx.use_reserve();
    let mut row = tx.get::<JoinTokenRow>(PLATFORM, &id).await?.ok_or(Error::NotFound)?;
    let open = row.invitation.state == JoinState::Open;
    if open {
        row.invitation.state = JoinState::Revoked;
        tx.put(PLATFORM, &id, &row).await?;
    }
    Ok(open)
}

/// Tells what a token is good for, without using it.
///
/// # Errors
/// [`Error::Join`]; the store's.
pub async fn find_join_token(
    tx: &Transaction,
    token: &JoinToken,
    node: &str,
    now: Timestamp,
) -> Result<Invitation, Error> {
    Ok(usable(tx, token, node, now).await?.invitation)
}

/// Uses a token up for a node that is given the certificate with this serial number.
///
/// # Errors
/// [`Error::Join`]; the store's.
pub async fn use_join_token(
    tx: &Transaction,
    token: &JoinToken,
    node: &str,
    serial: &str,
    now: Timestamp,
) -> Result<Invitation, Error> {
    let mut row = usable(tx, token, node, now).await?;
    row.invitation.state = JoinState::Used { node: node.to_owned(), serial: serial.to_owned() };
    tx.put(PLATFORM, &token.id(), &row).await?;
    Ok(row.invitation)
}

async fn usable(
    tx: &Transaction,
    token: &JoinToken,
    node: &str,
    now: Timestamp,
) -> Result<JoinTokenRow, Error> {
    if token.tenant() != PLATFORM {
        return Err(Error::Join(JoinRefusal::Unknown));
    }
    let presented = Fingerprint::of(&*tx.tenant_keys(PLATFORM).await?, token);
    let row = tx.get::<JoinTokenRow>(PLATFORM, &token.id()).await?;
    let matches = row.as_ref().map_or(&Fingerprint::absent(), |row| &row.fingerprint).matches(&presented);
    let row = row.filter(|_| matches).ok_or(Error::Join(JoinRefusal::Unknown))?;
    let refusal = match &row.invitation.state {
        JoinState::Used { .. } => JoinRefusal::Used,
        JoinState::Revoked => JoinRefusal::Revoked,
        JoinState::Open if row.invitation.expires_at <= now => JoinRefusal::Expired,
        JoinState::Open if row.invitation.node.as_deref().is_some_and(|bound| bound != node) => {
            JoinRefusal::OtherNode
        }
        JoinState::Open => return Ok(row),
    };
    Err(Error::Join(refusal))
}

impl Invitation {
    /// Tells whether somebody may still join with it.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.state == JoinState::Open && self.expires_at > now
    }
}

#[cfg(test)]
mod tests {
    use aesp_storage::Store;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const LIFE: Duration = Duration::from_secs(900);

    async fn made(store: &Store, node: Option<&str>) -> JoinToken {
        let wanted = Wanted {
            node: node.map(str::to_owned),
            hosts: vec!["n4.example".into()],
            created_by: PrincipalId::from_bytes([7; 16]),
            life: LIFE,
        };
        let made = store.run::<_, Error, _>(move |tx| {
            let wanted = wanted.clone();
            Box::pin(async move { Ok(create_join_token(tx, &wanted, &Entropy::from_system(), NOW).await?.0) })
        });
        made.await.unwrap()
    }

    async fn joins(
        store: &Store,
        token: &JoinToken,
        node: &'static str,
        now: Timestamp,
    ) -> Result<Invitation, JoinRefusal> {
        let token = token.clone();
        let used = store.run::<_, Error, _>(move |tx| {
            let token = token.clone();
            Box::pin(async move { use_join_token(tx, &token, node, "0a", now).await })
        });
        used.await.map_err(|error| match error {
            Error::Join(refusal) => refusal,
            other => panic!("{other:?}"),
        })
    }

    #[tokio::test]
    async fn a_token_lets_one_node_in_once_in_its_time_and_under_its_name() {
        let store = Store::for_tests();
        let token = made(&store, Some("n4")).await;
        assert_eq!(joins(&store, &token, "n5", NOW).await, Err(JoinRefusal::OtherNode));
        assert_eq!(joins(&store, &token, "n4", NOW.plus(LIFE)).await, Err(JoinRefusal::Expired));
        let used = joins(&store, &token, "n4", NOW).await.unwrap();
        assert_eq!(used.hosts, ["n4.example"]);
        assert_eq!(joins(&store, &token, "n4", NOW).await, Err(JoinRefusal::Used));

        let other = made(&store, None).await;
        let forged = JoinToken::new(PLATFORM, other.id(), Secret::generate().unwrap());
        let tenants = JoinToken::new(TenantId::from_bytes([9; 16]), other.id(), other.secret().clone());
        for wrong in
            [forged, tenants, JoinToken::new(PLATFORM, TokenId::from_bytes([1; 16]), other.secret().clone())]
        {
            assert_eq!(joins(&store, &wrong, "n4", NOW).await, Err(JoinRefusal::Unknown));
        }
        joins(&store, &other, "any", NOW).await.unwrap();
        let text = other.reveal();
        assert!(text.starts_with("aespj_") && text.parse::<JoinToken>().is_ok());
        assert!(text.parse::<crate::ApiKey>().is_err(), "one kind is no other");
    }

    #[tokio::test]
    async fn a_token_can_be_taken_back_and_is_forgotten_after_a_day() {
        let store = Store::for_tests();
        let token = made(&store, None).await;
        let id = token.id();
        let revoke = || store.run::<_, Error, _>(move |tx| Box::pin(revoke_join_token(tx, id)));
        assert!(revoke().await.unwrap());
        assert!(!revoke().await.unwrap());
        assert_eq!(joins(&store, &token, "n4", NOW).await, Err(JoinRefusal::Revoked));
        let list = || store.run::<_, Error, _>(|tx| Box::pin(list_join_tokens(tx)));
        assert_eq!(list().await.unwrap()[0].1.state, JoinState::Revoked);
        let later = NOW.plus(LIFE + KEPT + Duration::from_secs(1));
        let wanted =
            Wanted { node: None, hosts: vec![], created_by: PrincipalId::from_bytes([7; 16]), life: LIFE };
        let made = store.run::<_, Error, _>(move |tx| {
            let wanted = wanted.clone();
            Box::pin(
                async move { create_join_token(tx, &wanted, &Entropy::from_system(), later).await.map(drop) },
            )
        });
        made.await.unwrap();
        let left = list().await.unwrap();
        assert!(left.len() == 1 && left[0].0 != id, "{left:?}");
    }
}
