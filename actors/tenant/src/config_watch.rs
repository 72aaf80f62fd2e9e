use std::collections::BTreeMap;

use aesp_proto::TenantId;
use aesp_storage::{Store, revision_key};
use futures::stream::{self, Stream};

use crate::{
    Error, Value,
    config_store::since,
    key::{KEYS, Key},
};

/// A value that was, or is now, set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The value.
    pub value: Value,
    /// Whether it was so when the subscription began.
    pub initial: bool,
}

struct Subscription {
    store: Store,
    tenant: TenantId,
    /// The last version told of each key; nothing before the first look.
    told: Option<BTreeMap<&'static str, u32>>,
    keys: Vec<&'static Key>,
}

/// Tells the present values of the named keys (all, if none is named), and from then on every version in its order, whichever
/// node it was set at. The stream ends after an error.
///
/// # Errors
/// [`Error::UnknownKey`]; in the stream the store's.
pub fn changes(
    store: Store,
    tenant: TenantId,
    names: &[String],
) -> Result<impl Stream<Item = Result<Vec<Change>, Error>> + Send + use<>, Error> {
    let keys = if names.is_empty() {
        KEYS.iter().collect()
    } else {
        names.iter().map(|name| Key::find(name)).collect::<Result<_, _>>()?
    };
    let first = Some(Subscription { store, tenant, told: None, keys });
    Ok(stream::unfold(first, |subscription| async move {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(changes) => Some((Ok(changes), Some(subscription))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Subscription {
    /// Waits until there is something new.
    async fn next(&mut self) -> Result<Vec<Change>, Error> {
        loop {
            // Watched before it is read, so that no change falls between.
            let moved = self.store.watch(&revision_key(self.tenant));
            let changes = self.look().await?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            moved.await?;
        }
    }

    async fn look(&mut self) -> Result<Vec<Change>, Error> {
        let (tenant, keys, told) = (self.tenant, self.keys.clone(), self.told.clone());
        let changes = self
            .store
            .run(move |tx| {
                let (keys, told) = (keys.clone(), told.clone());
                Box::pin(async move {
                    let mut changes = Vec::new();
                    for key in keys {
                        match told.as_ref().and_then(|told| told.get(key.name)) {
                            None => {
                                let value = crate::config_get(tx, tenant, key.name).await?;
                                changes.push(Change { value, initial: true });
                            }
                            Some(version) => {
                                let values = since(tx, tenant, key, *version).await?;
                                let new = values.into_iter().map(|value| Change { value, initial: false });
                                changes.extend(new);
                            }
                        }
                    }
                    Ok::<_, Error>(changes)
                })
            })
            .await?;
        let told = self.told.get_or_insert_default();
        told.extend(changes.iter().map(|change| (change.value.key, change.value.version)));
        Ok(changes)
    }
}
