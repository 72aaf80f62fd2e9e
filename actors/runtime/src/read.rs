use std::{pin::Pin, sync::Arc};

use aesp_proto::{Error, v1::RuntimeFrame};
use futures::{Stream, StreamExt as _};
use ractor::ActorRef;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::{actor::Message, state::Event};

/// How many frames that have arrived are given to the actor at once.
const BATCH: usize = 64;
/// How many batches may wait for the actor; beyond that the transport holds the Runtime back.
const BATCHES: usize = 2;

/// Reads what a Runtime sends until it ends.
pub(crate) async fn frames(
    inbound: Pin<Box<dyn Stream<Item = Result<RuntimeFrame, Status>> + Send>>,
    actor: ActorRef<Message>,
) {
    let room = Arc::new(Semaphore::new(BATCHES));
    let mut inbound = inbound.ready_chunks(BATCH);
    while let Some(arrived) = inbound.next().await {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let mut frames = Vec::with_capacity(arrived.len());
        let mut broken = None;
        for frame in arrived {
            match frame {
                Ok(frame) => frames.push(frame),
                Err(status) => {
                    broken = Some(status);
                    break;
                }
            }
        }
        if actor.send_message(Message::Frames(frames, permit)).is_err() {
            return;
        }
        if broken.is_some() {
            drop(actor.send_message(Message::Broken(broken)));
            return;
        }
    }
    drop(actor.send_message(Message::Broken(None)));
}

/// Tells a Runtime that sent what can't be read what was wrong; one that has gone needs no words.
pub(crate) fn broken<R>(status: Option<Status>) -> Event<R> {
    match status.map(|status| status.code()) {
        Some(Code::ResourceExhausted | Code::OutOfRange) => {
            Event::Close(Error::invalid("a frame is larger than the Host accepts"))
        }
        Some(Code::Internal | Code::InvalidArgument | Code::DataLoss | Code::Unimplemented) => {
            Event::Close(Error::invalid("a frame can't be decoded"))
        }
        _ => Event::Disconnected,
    }
}
