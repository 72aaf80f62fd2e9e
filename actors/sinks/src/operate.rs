//! What operators do with sinks.

use std::sync::Arc;

use aesp_audit::Position;
use aesp_outbound::Failure;
use aesp_proto::{EventId, TenantId, Timestamp, v1::AuditEvent};
use aesp_storage::{Scan, Transaction, encode};

use crate::{Cause, Error, Sinks, parcel::Parcel, read::parcel, rows::DeadLetterRow, sinks::Sink};

/// An event that a sink refused for good. It is still in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub event: EventId,
    /// Why it was refused.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// Where it is in the tenant's log; what to list on behind.
    pub position: Position,
}

/// What became of dead letters that were sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Taken by the sink, and no dead letters any more.
    pub delivered: u64,
    /// Refused again, with the last reason.
    pub refused: u64,
    /// Why the others were not tried, or the last was refused; empty if all were taken.
    pub why: String,
    /// Whether there may be more.
    pub more: bool,
}

/// The most dead letters that are sent again at once.
const RETRIED: usize = 500;

impl Sinks {
    /// Sends one event to the sink, beside everything else, and tells what the sink said: its trouble with a cause, or that it was taken.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn test(&self, name: &str, event: &AuditEvent) -> Result<Result<(), (Cause, String)>, Error> {
        let sink = self.find(name)?;
        let sent = parcel(&*sink.transport, TenantId::PLATFORM, [0; 16], event);
        let told = match sent {
            Ok(parcel) => sink.deliver_one(Arc::new(parcel)).await,
            Err((_, why)) => Err(Failure::new(Cause::Content, why)),
        };
        Ok(told.map_err(|failure| (failure.cause, failure.why)))
    }

    /// Returns a tenant's dead letters of the sink, in the order of its log.
    ///
    /// # Errors
    /// [`Error::Unknown`], or the store's; also that the tenant's keys were destroyed, and its dead letters with them.
    pub async fn dead_letters(
        &self,
        name: &str,
        tenant: TenantId,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let id = self.find(name)?.id;
        let scan = Scan {
            prefix: encode(&id),
            after: after.map(|position| encode(&(id, position))),
            limit,
            ..Scan::default()
        };
        let found = self.inner.store.run(move |tx| {
            let scan = scan.clone();
            Box::pin(async move { tx.scan::<DeadLetterRow>(tenant, scan).await })
        });
        let letters = found.await?.into_iter().map(|((_, position), row)| DeadLetter {
            event: row.event,
            why: row.why,
            at: row.at,
            position,
        });
        Ok(letters.collect())
    }

    /// Sends a tenant's dead letters again, one by one, and forgets those that the sink takes now. Ends at the first trouble that is not
    /// an event's own.
    ///
    /// # Errors
    /// [`Error::Unknown`], or the store's.
    pub async fn retry(&self, name: &str, tenant: TenantId) -> Result<Retried, Error> {
        let sink = self.find(name)?;
        let letters = self.dead_letters(name, tenant, None, RETRIED).await?;
        let mut retried = Retried { more: letters.len() == RETRIED, ..Retried::default() };
        for letter in letters {
            let position = letter.position;
            let found = self
                .inner
                .store
                .run(move |tx| Box::pin(async move { aesp_audit::find(tx, tenant, &position).await }))
                .await;
            let sent = match found {
                Ok(Some(event)) => parcel(&*sink.transport, tenant, position, &event).map_err(|(_, why)| why),
                Ok(None) => Err("the event is not in the log any more".to_owned()),
                Err(aesp_audit::Error::Damaged(what)) => Err(format!("the log is damaged: {what}")),
                Err(error) => return Err(error.into()),
            };
            let told = match sent {
                Ok(parcel) => sink.deliver_one(Arc::new(parcel)).await,
                Err(why) => Err(Failure::new(Cause::Content, why)),
            };
            match told {
                Ok(()) => {
                    let id = sink.id;
                    let forgotten =
                        self.inner.store.run(move |tx| Box::pin(forget(tx, tenant, id, position)));
                    forgotten.await?;
                    retried.delivered += 1;
                }
                Err(failure) => {
                    retried.why = failure.to_string();
                    if failure.cause != Cause::Content {
                        retried.more = true;
                        break;
                    }
                    retried.refused += 1;
                }
            }
        }
        Ok(retried)
    }
}

async fn forget(
    tx: &Transaction,
    tenant: TenantId,
    id: aesp_storage::Blind,
    position: Position,
) -> Result<(), aesp_storage::Error> {
    tx.delete::<DeadLetterRow>(tenant, &(id, position)).await
}

impl Sink {
    async fn deliver_one(&self, parcel: Arc<Parcel>) -> Result<(), Failure> {
        let receipt = self.transport.deliver(&[parcel]).await?;
        match (receipt.refused.into_iter().next(), receipt.rest) {
            (Some((_, why)), _) => Err(Failure::new(Cause::Content, why)),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(()),
        }
    }
}
