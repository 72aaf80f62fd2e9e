//! Bytes that are no request, on the running node's own port.

use std::{pin::Pin, time::Duration};

use aesp_sdk::v1;
use aesp_tests::{World, soon};
use axum::body::Body as Whole;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Body as _, Service,
        http::{Method, Request},
    },
    transport::Channel,
};

const INVOKE: &str = "/aesp.v1.AgentService/Invoke";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn token(world: &World) -> String {
    let request = v1::AuthenticateServiceAccountRequest { api_key: world.agent.api_key.clone() };
    let mut authentication = world.administrator.authentication();
    authentication.authenticate_service_account(request).await.unwrap().into_inner().access_token
}

/// A gRPC message as it travels: whether it is compressed, its length, its bytes.
fn message(compressed: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[compressed][..], &length.to_be_bytes(), bytes].concat()
}

struct Answer {
    http: u16,
    status: Option<Status>,
}

impl Answer {
    fn is_refusal(&self) -> bool {
        self.http != 200 || self.status.as_ref().is_some_and(|status| status.code() != Code::Ok)
    }
}

/// Sends a body as it is, and waits for the end of the answer.
async fn send(channel: &mut Channel, request: Request<Vec<u8>>) -> Answer {
    let request = request.map(|bytes| Body::new(Whole::from(bytes)));
    let exchange = async {
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        let (head, body) = channel.call(request).await.unwrap().into_parts();
        let mut status = Status::from_header_map(&head.headers);
        let mut body = Box::pin(body);
        while let Some(frame) = std::future::poll_fn(|cx| Pin::as_mut(&mut body).poll_frame(cx)).await {
            let Ok(frame) = frame else { break };
            status = status.or_else(|| Status::from_header_map(frame.trailers_ref()?));
        }
        Answer { http: head.status.as_u16(), status }
    };
    soon("the node answers", exchange).await.unwrap()
}

fn post(world: &World, path: &str, token: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("{}{path}", world.host.url()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn frames_of_nonsense_are_refused_one_by_one() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let token = token(&world).await;
    let mut channel = world.host.bare().await.unwrap();
    let large = vec![b'x'; 5 << 20];
    let bodies: [(&str, Vec<u8>); 9] = [
        ("nothing at all", Vec::new()),
        ("half a prefix", vec![0, 0, 0]),
        ("a message that is cut off", message(0, 100, b"\x0a\x01a")),
        ("a message without end", message(0, u32::MAX, b"x")),
        ("a compressed message of no encoding", message(1, 3, b"\x0a\x01a")),
        ("a flag that does not exist", message(7, 3, b"\x0a\x01a")),
        ("more than the limit", message(0, u32::try_from(large.len()).unwrap(), &large)),
        ("a string that is no UTF-8", message(0, 4, b"\x0a\x02\xff\xfe")),
        ("random bytes", (0_u8..=255).rev().collect()),
    ];
    for (what, body) in bodies {
        let answer = send(&mut channel, post(&world, INVOKE, &token, body)).await;
        assert!(answer.is_refusal(), "{what} was let through");
        let status = answer.status.unwrap_or_else(|| panic!("{what}: HTTP {} and no reason", answer.http));
        assert!(!status.message().is_empty(), "{what}: {status:?}");
        assert_ne!(status.code(), Code::Internal, "{what} is blamed on the Host: {status:?}");
    }
    let session = world.session().await.unwrap();
    session.call("echo", json!({ "text": "on" })).await.unwrap().into_content().unwrap();
}

#[tokio::test]
async fn requests_that_are_no_rpc_are_refused() {
    let world = World::new().await.unwrap();
    let token = token(&world).await;
    let mut channel = world.host.bare().await.unwrap();
    let empty = || message(0, 0, b"");
    let mut json = post(&world, INVOKE, &token, b"{}".to_vec());
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let mut read = post(&world, INVOKE, &token, Vec::new());
    *read.method_mut() = Method::GET;
    let mut garbled = post(&world, INVOKE, &token, empty());
    garbled.headers_mut().insert("grpc-encoding", "rot13".parse().unwrap());
    let requests = [
        ("another content type", json),
        ("another method", read),
        ("an unknown encoding", garbled),
        ("an unknown RPC", post(&world, "/aesp.v1.AgentService/Explode", &token, empty())),
        ("an unknown service", post(&world, "/aesp.v1.Nothing/Invoke", &token, empty())),
        ("no path", post(&world, "/", &token, empty())),
    ];
    for (what, request) in requests {
        assert!(send(&mut channel, request).await.is_refusal(), "{what} was let through");
    }
    world.session().await.expect("the node goes on");
}

/// The node closes the connection, or says that it will, and answers nothing.
async fn is_closed(what: &str, mut socket: impl AsyncReadExt + Unpin) {
    let mut heard = Vec::new();
    let ended = soon(what, socket.read_to_end(&mut heard)).await;
    assert!(ended.is_ok(), "{what}: the connection stays open");
    assert!(!heard.windows(9).any(|part| part == b"grpc-stat"), "{what}: it was answered");
}

#[tokio::test]
async fn what_is_no_tls_or_no_http_is_closed() {
    let world = World::new().await.unwrap();
    let mut plain = TcpStream::connect(world.host.grpc()).await.unwrap();
    plain.write_all(b"POST /aesp.v1.AgentService/Invoke HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    is_closed("plain HTTP", plain).await;
    let mut plain = TcpStream::connect(world.host.grpc()).await.unwrap();
    // A TLS record that claims to be longer than any is.
    plain.write_all(&[0x16, 0x03, 0x01, 0xff, 0xff, 0x01, 0x00]).await.unwrap();
    is_closed("a record without end", plain).await;

    let frames: [(&str, Vec<u8>); 4] = [
        ("no preface", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a frame larger than any may be", [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat()),
        (
            "data on a stream that is not open",
            [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 1, 0, 0, 0, 0, 0, 5, 7]].concat(),
        ),
        (
            "headers that are no headers",
            [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]]
                .concat(),
        ),
    ];
    for (what, bytes) in frames {
        let mut socket = world.host.socket("localhost", None).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        socket.flush().await.unwrap();
        is_closed(what, socket).await;
    }
    // One that begins and says nothing more holds nobody up.
    let mut silent = world.host.socket("localhost", None).await.unwrap();
    silent.write_all(&PREFACE[..10]).await.unwrap();
    let session = tokio::time::timeout(Duration::from_secs(20), world.session()).await;
    session.expect("the node goes on").unwrap();
    drop(silent);
}
