//! Calls of any RPC, made from the descriptors alone.

use std::time::Duration;

use aesp_proto::{Access, Operation, Operations};
use aesp_sdk::{Client, Error};
use bytes::{Buf, BufMut};
use futures::stream;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, ReflectMessage, Value,
};
use tokio::time::timeout;
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Body as HttpBody, StdError, http::uri::PathAndQuery},
};

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_DEPTH: usize = 4;

/// One RPC of the interface.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// Its path, for example `/aesp.v1.AgentService/Invoke`.
    pub path: String,
    /// What it says that it needs.
    pub operation: Operation,
    method: MethodDescriptor,
}

/// Returns every RPC of `aesp.v1`.
///
/// # Panics
/// When the descriptors, which the build made, can't be read.
#[must_use]
pub fn every_rpc() -> Vec<Rpc> {
    let pool =
        DescriptorPool::decode(aesp_proto::descriptor_set()).expect("descriptors were made by the build");
    let operations = Operations::load();
    let mut all = Vec::new();
    for service in pool.services().filter(|service| service.package_name() == "aesp.v1") {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let operation = operations.get(&path).expect("each RPC declares its operation").clone();
            all.push(Rpc { path, operation, method });
        }
    }
    all
}

impl Rpc {
    /// Tells whether it comes before authentication.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.operation.access == Access::Public
    }

    /// Returns a request whose strings are what `text` makes of each field, down to a few levels.
    pub fn request(&self, text: &mut dyn FnMut(&FieldDescriptor) -> Option<String>) -> DynamicMessage {
        let mut message = DynamicMessage::new(self.method.input());
        fill(&mut message, text, 0);
        message
    }

    /// Sends the request and returns the first answer; `None` for an empty stream, or for one that stays silent.
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn call(&self, client: &Client, request: DynamicMessage) -> Result<Option<Vec<u8>>, Error> {
        self.send(client, request.encode_to_vec()).await
    }

    /// Sends any bytes as the request; otherwise as [`Rpc::call`].
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn send(&self, client: &Client, request: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
        self.send_through(client.channel(), request).await
    }

    /// Sends any bytes as the request through a channel that may add nothing to it; otherwise as [`Rpc::call`].
    ///
    /// # Errors
    /// The Host's refusal.
    pub async fn send_through<S>(&self, channel: S, request: Vec<u8>) -> Result<Option<Vec<u8>>, Error>
    where
        S: GrpcService<Body>,
        S::ResponseBody: Send + 'static,
        <S::ResponseBody as HttpBody>::Error: Into<StdError>,
    {
        let mut grpc = Grpc::new(channel);
        let path = PathAndQuery::try_from(self.path.as_str()).expect("is a path");
        let answer = timeout(PATIENCE, async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.into().to_string()))?;
            let request = Request::new(stream::iter([request]));
            let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
            answers.message().await
        })
        .await;
        match answer {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => Err(Error::from_status(&status)),
            Err(_) => Ok(None),
        }
    }
}

/// Sets strings, lists of strings and messages.
fn fill(
    message: &mut DynamicMessage,
    text: &mut dyn FnMut(&FieldDescriptor) -> Option<String>,
    depth: usize,
) {
    let descriptor = message.descriptor();
    for field in descriptor.fields() {
        let value = match field.kind() {
            _ if field.is_map() => None,
            Kind::String => text(&field).map(Value::String),
            Kind::Bytes if field.name().ends_with("_json") => Some(Value::Bytes("{}".into())),
            Kind::Message(inner) if depth < MAX_DEPTH && field.containing_oneof().is_none() => {
                let mut inner = DynamicMessage::new(inner);
                fill(&mut inner, text, depth + 1);
                Some(Value::Message(inner))
            }
            _ => None,
        };
        if let Some(value) = value {
            let value = if field.is_list() { Value::List(vec![value]) } else { value };
            message.set_field(&field, value);
        }
    }
}

/// Sends described messages, and takes answers as the bytes that they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
